/**
 * What the page needs from whatever makes the images. The only implementation so far is the server's API.
 *
 * A backend has two methods:
 *
 *   describe(): Promise<{models, fields}>
 *     models: [{name, sizes, channels, classes}], the first being the default
 *     fields: {guidance, variety, steps, sampler, …}, each {default, minimum, maximum, enum, description}, as in JSON schema
 *
 *   generate(request, {signal, onImage}): Promise<warnings>
 *     request: {model, prompt, n, seed, guidance, variety, steps, sampler, negative_prompt, size}
 *     onImage({seed, blob, done}): called with every prediction of an image on the way, and with the image when it is done
 *     signal: an AbortSignal that ends the work
 *     warnings: [string], remarks about the prompt
 *
 * Both throw BackendError.
 */

export { ServerBackend as Backend } from "./server.js";
