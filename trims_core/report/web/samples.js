// The problems that can be played: those inside the page, and all of the task where a server gives them.
const samples = (() => {
  "use strict";

  const tasks = data.samples.tasks;
  const lists = new Map();
  const fetched = new Map();

  // Ids and verdicts of a task's problems. verdicts: of model 0 at point 0, at point 1, …, of model 1, …
  async function list(task) {
    if (!lists.has(task)) lists.set(task, data.isServed ? await ask(`samples/${encodeURIComponent(task)}.json`) : own(task));
    return lists.get(task);
  }

  function own(task) {
    return tasks[task].problems.map((problem) => ({
      id: problem.id,
      verdicts: problem.answers.map(({ model, point, verdict }) => ({ model, point, verdict })),
    }));
  }

  async function problem(task, id) {
    const inside = tasks[task].problems.find((one) => one.id === id);
    if (inside || !data.isServed) return inside ?? null;
    const key = `samples/${encodeURIComponent(task)}/${encodeURIComponent(id)}.json`;
    if (!fetched.has(key)) fetched.set(key, await ask(key));
    return fetched.get(key);
  }

  async function ask(address) {
    const answer = await fetch(address);
    if (!answer.ok) throw new Error(`${address}: ${answer.status} ${answer.statusText}`);
    return answer.json();
  }

  const answerOf = (problem, model, point) =>
    problem.answers.find((answer) => answer.model === model && answer.point === point);
  const verdictOf = (row, model, point) =>
    row.verdicts.find((one) => one.model === model && one.point === point)?.verdict;

  return { tasks, list, problem, answerOf, verdictOf };
})();
