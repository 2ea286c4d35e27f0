// The official JavaScript client against a server: node client.mjs URL. Prints what it received, as JSON.
import OpenAI, { toFile } from 'openai';

const [url, photo, mask] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'sk-any', maxRetries: 0 });
const file = (data, name) => toFile(Buffer.from(data, 'base64'), name, { type: 'image/png' });
const failed = async (promise) => {
  const error = await promise.then(() => ({}), (error) => error);
  return { name: error.constructor.name, status: error.status, code: error.code, param: error.param };
};
const results = {};

results.models = (await client.models.list()).data.map((model) => model.id);
const made = await client.images.generate({ prompt: 'a rose', n: 2, seed: 7 });
results.generated = made.data.map((image) => image.b64_json);
const edited = await client.images.edit({ prompt: 'a rose', image: await file(photo, 'a.png'), mask: await file(mask, 'm.png'), seed: 7 });
results.edited = edited.data.map((image) => image.b64_json);
results.events = [];
for await (const event of await client.images.generate({ prompt: 'a rose', stream: true, partial_images: 1 })) results.events.push(event.type);
results.bad = await failed(client.images.generate({ prompt: '' }));
results.missing = await failed(client.models.retrieve('gpt-image-1'));
console.log(JSON.stringify(results));
