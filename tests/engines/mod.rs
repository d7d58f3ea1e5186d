//! Workflow engines run what lies in this repository. Engines that are not there are skipped, with a line that says so.

mod nextflow;
