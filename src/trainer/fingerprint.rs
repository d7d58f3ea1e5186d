//! What a trained model depends on, as one number.

use std::path::Path;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::options::schema;
use crate::run_record::Run;
use crate::train::METRICS_FILES;

/// Records of how an input was made, which change from run to run; results do not depend on them.
const RECORDS: [&str; 3] = ["run.json", METRICS_FILES[0], METRICS_FILES[1]];

/// Fingerprint of a run: hash of the version, of the options that affect the trained model, and of the contents of the inputs,
/// independent of paths and times. An option that does not affect the model has `x-fingerprint` false in its schema.
pub fn fingerprint<O: Serialize + JsonSchema>(options: &O, run: &Run) -> String {
    let properties = schema::properties::<O>();
    let mark = |name: &str| properties.get(name)?.get("x-fingerprint");
    let mut options = schema::object(options);
    options.retain(|name, _| mark(name) != Some(&Value::Bool(false)));
    let options = Value::Object(options);
    let mut hash = Sha256::new();
    hash.update(format!("{} {options}", env!("CARGO_PKG_VERSION")));
    let is_record = |path: &Path| RECORDS.iter().any(|name| path.ends_with(name));
    let inputs = run.inputs().iter().filter(|input| !is_record(&input.path));
    inputs.for_each(|input| hash.update(&input.sha256));
    let digits = hash.finalize();
    digits.iter().map(|byte| format!("{byte:02x}")).collect()
}
