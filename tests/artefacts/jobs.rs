//! Job definitions without a workflow engine: one container, one parameter file, inputs and outputs on a volume at `/data`.

use super::{assert_current, directory};
use scgpt_tools::descriptor::{self, FLAVORS};
use scgpt_tools::programs::{ALL, Entry};
use serde_json::{Value, json};
use std::path::Path;

/// Mount point and name of the volume.
const DATA: &str = "/data";
const VOLUME: &str = "scgpt-data";
/// Number of retries of a job.
const RETRIES: u32 = 3;

/// Values of a program in a job definition.
struct Job {
    /// Name of the job.
    name: String,
    command: Vec<String>,
    image: String,
    cpus: u64,
    memory_gb: u64,
    gpus: u64,
    /// Exit codes that are not retried.
    final_codes: Vec<u64>,
}

impl Job {
    fn of(entry: &Entry) -> Self {
        let descriptor = descriptor::of(entry);
        let resources = &descriptor["resources"];
        let number = |value: &Value| value.as_u64().expect("a number");
        let has_gpu = resources["gpu"] == true;
        let image = &descriptor["container"][FLAVORS[usize::from(has_gpu)]];
        let codes = descriptor["exit_codes"].as_array().into_iter().flatten();
        let is_final = |code: &&Value| code["retry"] == false && code["code"] != 0;
        let params = ["--params".to_owned(), format!("{DATA}/params.json")];
        Self {
            name: entry.name.replace(' ', "-"),
            command: entry
                .name
                .split(' ')
                .map(str::to_owned)
                .chain(params)
                .collect(),
            image: image.as_str().expect("an image").to_owned(),
            cpus: number(&resources["cpus"]),
            memory_gb: number(&resources["memory_gb"]),
            gpus: has_gpu.into(),
            final_codes: codes
                .filter(is_final)
                .map(|code| number(&code["code"]))
                .collect(),
        }
    }

    /// A Kubernetes `Job`.
    fn kubernetes(&self) -> Value {
        let mut resources = json!({
            "requests": {"cpu": self.cpus, "memory": format!("{}Gi", self.memory_gb)},
            "limits": {"memory": format!("{}Gi", self.memory_gb)},
        });
        if self.gpus > 0 {
            resources["limits"]["nvidia.com/gpu"] = self.gpus.into();
        }
        let container = json!({
            "name": self.name,
            "image": self.image,
            "command": self.command,
            "workingDir": DATA,
            "resources": resources,
            "volumeMounts": [{"name": VOLUME, "mountPath": DATA}],
        });
        json!({
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": self.name},
            "spec": {
                "backoffLimit": RETRIES,
                "podFailurePolicy": {"rules": [
                    {"action": "FailJob", "onExitCodes": {"operator": "In", "values": self.final_codes}},
                    {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                ]},
                "template": {"spec": {
                    "restartPolicy": "Never",
                    "containers": [container],
                    "volumes": [{"name": VOLUME, "persistentVolumeClaim": {"claimName": VOLUME}}],
                }},
            },
        })
    }

    /// Input of `aws batch register-job-definition --cli-input-json`.
    fn aws(&self) -> Value {
        let resources = [
            ("VCPU", self.cpus),
            ("MEMORY", self.memory_gb * 1024),
            ("GPU", self.gpus),
        ];
        let resources = resources.into_iter().filter(|(_, amount)| *amount > 0);
        let resource =
            |(kind, amount): (&str, u64)| json!({"type": kind, "value": amount.to_string()});
        let stop = |code: &u64| json!({"onExitCode": code.to_string(), "action": "EXIT"});
        json!({
            "jobDefinitionName": self.name,
            "type": "container",
            "platformCapabilities": ["EC2"],
            "retryStrategy": {
                "attempts": RETRIES + 1,
                "evaluateOnExit": self.final_codes.iter().map(stop).collect::<Vec<_>>(),
            },
            "containerProperties": {
                "image": self.image,
                "command": self.command,
                "resourceRequirements": resources.map(resource).collect::<Vec<_>>(),
                "volumes": [{"name": VOLUME, "host": {"sourcePath": DATA}}],
                "mountPoints": [{"sourceVolume": VOLUME, "containerPath": DATA, "readOnly": false}],
            },
        })
    }

    /// Input of `gcloud batch jobs submit --config`.
    fn google(&self) -> Value {
        let mut policy = json!({"provisioningModel": "SPOT"});
        let mut instance = json!({});
        if self.gpus > 0 {
            policy["accelerators"] = json!([{"type": "nvidia-l4", "count": self.gpus.to_string()}]);
            policy["machineType"] = "g2-standard-8".into();
            instance["installGpuDrivers"] = true.into();
        }
        instance["policy"] = policy;
        let (program, arguments) = self.command.split_first().expect("a program");
        json!({
            "taskGroups": [{
                "taskCount": "1",
                "taskSpec": {
                    "runnables": [{"container": {"imageUri": self.image, "entrypoint": program, "commands": arguments}}],
                    "computeResource": {
                        "cpuMilli": (self.cpus * 1000).to_string(),
                        "memoryMib": (self.memory_gb * 1024).to_string(),
                    },
                    "maxRetryCount": RETRIES,
                    "lifecyclePolicies": [{"action": "FAIL_TASK", "actionCondition": {"exitCodes": self.final_codes}}],
                    "volumes": [{"gcs": {"remotePath": VOLUME}, "mountPath": DATA}],
                },
            }],
            "allocationPolicy": {"instances": [instance]},
            "logsPolicy": {"destination": "CLOUD_LOGGING"},
        })
    }
}

#[test]
fn every_program_has_job_definitions() {
    for entry in ALL {
        let job = Job::of(entry);
        let tool = directory(entry);
        let tool = Path::new("containers/jobs").join(tool.file_name().expect("a tool"));
        for (place, definition) in [
            ("kubernetes", job.kubernetes()),
            ("aws-batch", job.aws()),
            ("google-batch", job.google()),
        ] {
            assert_current(
                &tool.join(format!("{place}.json")),
                &format!("{definition:#}\n"),
            );
        }
    }
}
