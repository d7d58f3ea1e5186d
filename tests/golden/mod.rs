//! Named after the fixture folders; tolerances are those the fixtures were recorded with.

mod annotation;
mod embedding;
mod layouts;
mod losses;
mod preprocessing;
mod pretrain;
mod tokenizer;
mod training;
