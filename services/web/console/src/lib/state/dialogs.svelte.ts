/** Questions that need an answer before something is deleted or changed. */

export interface Question {
  text: string;
  confirm: string;
  answer(confirmed: boolean): void;
}

class Dialogs {
  question = $state.raw<Question | null>(null);
  help = $state(false);

  /** Asks, and returns whether the person confirmed. */
  confirm(text: string, confirm: string): Promise<boolean> {
    return new Promise((resolve) => {
      this.question = {
        text,
        confirm,
        answer: (confirmed) => {
          this.question = null;
          resolve(confirmed);
        },
      };
    });
  }
}

export const dialogs = new Dialogs();
