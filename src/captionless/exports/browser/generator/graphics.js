/** Moves networks to the graphics processor where they compute the same, and faster. */

/** How far an output may be from that of the CPU, as a share of its largest value; half a level of 255 is 4e-3. */
export const TOLERANCE = 1e-3;
/** Runs that are timed, after one that compiles the programs of the graphics processor. */
const RUNS = 3;

/**
 * Try all stages of a model, and let those that pass run on the graphics processor from now on.
 *
 * @param model a Model, whose sessions are replaced
 * @param open a function from the name of a graph to a promise of its session there
 * @returns {Promise<[{graph, deviation, here, there, used}]>} the deviation, and the milliseconds of a run
 */
export async function moveStages(model, open) {
  const results = [];
  for (const stage of model.about.stages) {
    const { graph } = stage;
    try {
      const there = await open(graph);
      const result = await compare(model.sessions[graph], there, model.example(stage));
      if (result.used) model.sessions[graph] = withFallback(there, model.sessions[graph]);
      results.push({ graph, ...result });
    } catch (error) {
      results.push({ graph, used: false, failure: error.message });
    }
  }
  return results;
}

/** Compare two sessions on the same inputs. */
export async function compare(here, there, feeds) {
  const wanted = (await here.run(feeds)).prediction.data;
  const found = (await there.run(feeds)).prediction.data;
  let [difference, largest] = [found.length === wanted.length ? 0 : Infinity, 0];
  wanted.forEach((value, i) => {
    difference = Math.max(difference, Number.isFinite(found[i]) ? Math.abs(found[i] - value) : Infinity);
    largest = Math.max(largest, Math.abs(value));
  });
  const deviation = difference / largest;
  if (!(deviation <= TOLERANCE)) return { deviation, used: false };
  const [before, after] = [await fastest(here, feeds), await fastest(there, feeds)];
  return { deviation, here: before, there: after, used: after < before };
}

async function fastest(session, feeds) {
  let least = Infinity;
  for (let i = 0; i < RUNS; i++) {
    const start = performance.now();
    await session.run(feeds);
    least = Math.min(least, performance.now() - start);
  }
  return least;
}

/** Return a session that goes over to another when it fails, as when the graphics processor is lost. */
function withFallback(session, other) {
  return {
    async run(feeds) {
      try {
        return await session.run(feeds);
      } catch {
        session = other;
        return other.run(feeds);
      }
    },
  };
}
