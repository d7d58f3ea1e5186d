//! Named after the fixture directories; tolerances are those the fixtures were recorded with.

mod annotation;
mod embedding;
mod grn;
mod integration;
mod layouts;
mod losses;
mod perturbation;
mod preprocessing;
mod pretrain;
mod tokenizer;
mod training;
