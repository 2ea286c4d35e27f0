/**
 * What the page needs from whatever makes the images. Here it is the server's API; a page that does without a server puts
 * a backend of its own in the place of this module.
 *
 * A backend is made with a function that asks the user for a key, and whose argument says whether the one before was
 * refused; it has three methods:
 *
 *   describe(): Promise<{models, fields}>
 *     models: [{name, sizes, channels, classes, can}], the first being the default; `can` lists what else is possible:
 *       "blend" (interpolate to a second prompt), "like" (a photograph as prompt), "edit" (of a photograph), "nearest"
 *     fields: {guidance, variety, steps, sampler}, each {type, default, minimum, maximum, enum}, as in JSON schema
 *
 *   generate(request, {signal, onImage}): Promise<warnings>
 *     request: {model, prompt, n, seed, guidance, variety, steps, sampler}, and where they are used
 *       negative_prompt, size ("64x64"), towards and towards_share (0 to 1),
 *       like and like_share, or image, strength and mask, which is transparent where the image is to change;
 *       images are square PNG files (Blob)
 *     onImage({seed, blob, done}): called with the prediction of every step, and with the image when it is done: a PNG file
 *       that holds its settings
 *     signal: an AbortSignal that ends the work
 *     warnings: [string], remarks about the prompt
 *
 *   nearest({model, image}): Promise<{typical, compared, of, images}>, of models that can
 *     images: [{name, similarity, credit, link, thumbnail}], the nearest training images; the link and the thumbnail (a data
 *       URL) may be null
 *     typical: the similarity of a training image to its nearest neighbour; compared, of: how many training images were
 *       compared with, and how many there are
 *
 * All throw BackendError.
 */

export { ServerBackend as Backend } from "./server.js";
