"use strict";

const METHODS = ["get", "post", "patch", "put", "delete", "head", "options"];

/** Returns an element with children. Texts of the document are never read as HTML. */
function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children.filter((child) => child !== null));
  return made;
}

class Page {
  constructor(api) {
    this.api = api;
  }

  resolved(schema) {
    if (!schema || !schema.$ref) return schema || {};
    return this.api.components.schemas[schema.$ref.split("/").pop()];
  }

  typeOf(schema) {
    if (schema.$ref) return schema.$ref.split("/").pop();
    const choices = schema.anyOf || schema.oneOf;
    if (choices) return choices.map((each) => this.typeOf(each)).join(" | ");
    if (schema.enum) return schema.enum.map((each) => JSON.stringify(each)).join(" | ");
    if ("const" in schema) return JSON.stringify(schema.const);
    if (schema.type === "array") return `list of ${this.typeOf(schema.items || {})}`;
    return schema.format || schema.type || "any";
  }

  example(schema, depth = 0) {
    const found = this.resolved(schema);
    if (found.examples && found.examples.length) return found.examples[0];
    if ("default" in found) return found.default;
    if (found.enum) return found.enum[0];
    if ("const" in found) return found.const;
    const choices = found.anyOf || found.oneOf;
    if (choices) return this.example(choices[0], depth);
    if (found.type === "object" || found.properties) {
      const required = Object.entries(found.properties || {}).filter(([name]) => (found.required || []).includes(name));
      return depth > 4 ? {} : Object.fromEntries(required.map(([name, each]) => [name, this.example(each, depth + 1)]));
    }
    return { array: [], integer: 1, number: 1, boolean: true, string: "" }[found.type] ?? null;
  }

  fields(rows) {
    const body = rows.map(([name, schema, place, required]) =>
      element("tr", {}, element("td", {}, element("code", {}, name)), element("td", {}, this.typeOf(schema)),
        element("td", { class: "muted" }, [place, required ? "required" : ""].filter(Boolean).join(", ")),
        element("td", {}, schema.description || this.resolved(schema).description || "")));
    return rows.length ? element("table", {}, element("tbody", {}, ...body)) : null;
  }

  curl(method, path, operation) {
    const parts = ["curl"];
    if (method === "head") parts.push("-I");
    else if (method !== "get") parts.push(`-X ${method.toUpperCase()}`);
    parts.push('-H "Authorization: Bearer $CARECA_TOKEN"');
    for (const parameter of operation.parameters || []) {
      const [value] = parameter.schema.examples || [];
      if (parameter.in === "header" && value !== undefined) parts.push(`-H '${parameter.name}: ${value}'`);
    }
    const content = operation.requestBody ? operation.requestBody.content : {};
    if (content["multipart/form-data"]) parts.push("-F file=@call.wav");
    else if (content["application/json"]) {
      const body = JSON.stringify(this.example(content["application/json"].schema));
      parts.push(`-H 'Content-Type: application/json' -d '${body}'`);
    }
    parts.push(`'${location.origin}${path}'`);
    return parts.join(" ");
  }

  operation(method, path, operation) {
    const parameters = (operation.parameters || []).map((each) =>
      [each.name, { ...each.schema, description: each.description || each.schema.description }, each.in, each.required]);
    const body = Object.entries(operation.requestBody ? operation.requestBody.content : {}).map(([type, content]) => {
      const schema = this.resolved(content.schema);
      const rows = Object.entries(schema.properties || {}).map(([name, each]) =>
        [name, each, "", (schema.required || []).includes(name)]);
      return element("section", {}, element("h3", {}, `Body: ${type}`), this.fields(rows));
    });
    const answers = Object.entries(operation.responses || {}).map(([status, answer]) => {
      const content = Object.entries(answer.content || {}).map(([type, each]) => {
        const schema = this.resolved(each.schema);
        const rows = Object.entries(schema.properties || {}).map(([name, field]) => [name, field, "", false]);
        return element("div", {}, element("code", {}, type), this.fields(rows));
      });
      return element("section", {}, element("h3", {}, `${status}: ${answer.description}`), ...content);
    });
    return element("details", {},
      element("summary", {}, element("code", {}, `${method.toUpperCase()} ${path}`), operation.summary || ""),
      element("p", {}, operation.description || ""), this.fields(parameters), ...body,
      element("pre", { tabindex: "0" }, this.curl(method, path, operation)), ...answers);
  }

  show() {
    const groups = new Map();
    for (const [path, operations] of Object.entries(this.api.paths)) {
      for (const method of METHODS.filter((each) => operations[each])) {
        const tag = (operations[method].tags || ["other"])[0];
        if (!groups.has(tag)) groups.set(tag, []);
        groups.get(tag).push(this.operation(method, path, operations[method]));
      }
    }
    for (const [tag, shown] of groups) {
      const id = `tag-${tag.replace(/\W/g, "-")}`;
      document.getElementById("contents").append(element("a", { href: `#${id}` }, tag));
      document.getElementById("operations").append(element("h2", { id }, tag), ...shown);
    }
    document.getElementById("about").replaceChildren(
      `${this.api.info.description} Version ${this.api.info.version}. The document is `,
      element("a", { href: "/openapi.json" }, "/openapi.json"), ".");
  }
}

async function main() {
  const response = await fetch("/openapi.json");
  if (!response.ok) throw new Error(`/openapi.json: ${response.status}`);
  new Page(await response.json()).show();
}

main().catch((error) => { document.getElementById("about").textContent = String(error); });
