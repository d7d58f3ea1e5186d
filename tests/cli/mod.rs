//! One file for each program, and one for each promise that several programs make.

mod annotate;
mod checkpoint;
mod damaged;
mod embed;
mod finetune_annotation;
mod generate;
mod integrate;
mod log;
mod perturbation;
mod pretrain;
mod python;
mod resume;
mod tokenize;
mod wrong_input;
