//! Workflow engines run what lies in this repository. Tests of an engine that is not there are skipped.

mod nextflow;
