//! One file for each program, and one for each property shared by several programs.

mod annotate;
mod checkpoint;
mod damaged;
mod embed;
mod finetune_annotation;
mod generate;
mod grn;
mod grn_simulated;
mod integrate;
mod log;
mod map_reference;
mod perturbation;
mod pretrain;
mod python;
mod report;
mod report_claims;
mod resume;
mod tokenize;
mod wrong_input;
