// Submit a job and look at it, with nothing but fetch and the types of the contract.
import type { components, paths } from "./schema.js";

type Submission = paths["/v1/jobs"]["post"]["requestBody"]["content"]["application/json"];
type Job = components["schemas"]["Job"];
type Problem = components["schemas"]["Problem"];

const SPEC: Submission = {
  name: "street-student",
  data: { path: "/data/street" },
  teacher: { weights: "yolo11l.pt" },
  student: { model: "yolov8n" },
  distillation: { recipe: "balanced" },
  training: { epochs: 100 },
};

async function ask(address: string, init: RequestInit = {}): Promise<Job> {
  const answer = await fetch(address, init);
  if (!answer.ok) {
    const problem = (await answer.json()) as Problem;
    throw new Error(`${problem.code}: ${problem.detail}`);
  }
  return (await answer.json()) as Job;
}

export async function submit(service: string): Promise<Job> {
  const queued = await ask(`${service}/v1/jobs`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(SPEC),
  });
  return ask(`${service}${queued.links.self}`);
}
