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

async function ask(address: string, key: string, init: RequestInit = {}): Promise<Job> {
  const headers = { ...init.headers, Authorization: `Bearer ${key}` };
  const answer = await fetch(address, { ...init, headers });
  if (!answer.ok) {
    const problem = (await answer.json()) as Problem;
    throw new Error(`${problem.code}: ${problem.detail}`);
  }
  return (await answer.json()) as Job;
}

export async function submit(service: string, key: string): Promise<Job> {
  const queued = await ask(`${service}/v1/jobs`, key, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(SPEC),
  });
  return ask(`${service}${queued.links.self}`, key);
}
