// Calls the web service with OpenAI's JavaScript client, and prints what it receives as one JSON object.
//   node transcribe.mjs http://127.0.0.1:8080/v1 call.wav
import fs from "node:fs";
import OpenAI from "openai";

const [baseURL, path] = process.argv.slice(2);
const client = new OpenAI({ apiKey: "none", baseURL, maxRetries: 0 });
const file = () => fs.createReadStream(path);

const models = await client.models.list();
const short = await client.audio.transcriptions.create({ file: file(), model: "whisper-1" });
const text = await client.audio.transcriptions.create({ file: file(), model: "whisper-1", response_format: "text" });
const verbose = await client.audio.transcriptions.create({
  file: file(),
  model: "whisper-1",
  response_format: "verbose_json",
  timestamp_granularities: ["word", "segment"],
  hotwords: ["Careca"],
  speaker_count: 2,
});
const stream = await client.audio.transcriptions.create({
  file: file(),
  model: "gpt-4o-transcribe-diarize",
  response_format: "diarized_json",
  chunking_strategy: "auto",
  stream: true,
});
const events = [];
for await (const event of stream) events.push(event);
const translation = await client.audio.translations.create({ file: file(), model: "whisper-1" });

let error;
try {
  await client.audio.transcriptions.create({ file: file(), model: "whisper-1", temperature: 0.7 });
} catch (thrown) {
  error = { class: thrown.constructor.name, status: thrown.status, code: thrown.code, param: thrown.param };
}

console.log(
  JSON.stringify({ models: models.data.map((model) => model.id), short, text, verbose, events, translation, error }),
);
