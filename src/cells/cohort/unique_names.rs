//! Names that are unique.

use std::collections::{HashMap, HashSet};

/// Gives out names once: `NAME`, then `NAME-1`, `NAME-2`.
#[derive(Default)]
pub(super) struct UniqueNames {
    taken: HashSet<String>,
    repeated: HashMap<String, usize>,
}

impl UniqueNames {
    pub fn add(&mut self, name: &str) -> String {
        if self.taken.insert(name.to_owned()) {
            return name.to_owned();
        }
        let n = self.repeated.entry(name.to_owned()).or_default();
        loop {
            *n += 1;
            let numbered = format!("{name}-{n}");
            if self.taken.insert(numbered.clone()) {
                return numbered;
            }
        }
    }
}
