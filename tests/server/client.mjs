// The official JavaScript client against servers: node client.mjs JSON. Prints what it received, as JSON.
import OpenAI, { toFile } from 'openai';

const { url, guarded, key, failing, busy, photo, mask } = JSON.parse(process.argv[2]);
const connect = (base, options = {}) => new OpenAI({ baseURL: `${base}/v1`, apiKey: 'sk-any', maxRetries: 0, ...options });
const file = (data, name) => toFile(Buffer.from(data, 'base64'), name, { type: 'image/png' });
const failed = async (promise) => {
  const error = await promise.then(() => ({}), (error) => error);
  return { name: error.constructor.name, status: error.status, code: error.code, param: error.param };
};
const rose = { prompt: 'a rose' };
const results = {};

const client = connect(url);
results.models = (await client.models.list()).data.map((model) => model.id);
results.generated = (await client.images.generate({ ...rose, n: 2, seed: 7 })).data.map((image) => image.b64_json);
const photos = [await file(photo, 'a.png'), await file(photo, 'b.png')];
const edit = async (image) => (await client.images.edit({ ...rose, image, mask: await file(mask, 'm.png'), seed: 7 })).data.map((image) => image.b64_json);
results.edited = [await edit(photos[0]), await edit(photos)];
results.varied = (await client.images.createVariation({ image: photos[0] })).data.length;
results.events = [];
for await (const event of await client.images.generate({ ...rose, stream: true, partial_images: 1 })) results.events.push(event.type);

results.errors = [
  await failed(client.images.generate({ prompt: '' })),
  await failed(connect(guarded).images.generate(rose)),
  await failed(connect(url, { defaultHeaders: { origin: 'http://evil.example' } }).images.generate(rose)),
  await failed(client.models.retrieve('gpt-image-1')),
  await failed(connect(busy).images.generate(rose)),
  await failed(connect(failing).images.generate(rose)),
];
results.key = (await connect(guarded, { apiKey: key }).models.list()).data.length;
results.repeated = (await connect(failing, { maxRetries: 2 }).images.generate(rose)).data.length;
console.log(JSON.stringify(results));
