// Pre-trains one model on the corpora of many samples, and embeds every sample with it. They need no common vocabulary: the model learns
// the genes of all.

include { SCGPT_PRETRAIN } from '../modules/scgpttools/scgpt/pretrain/main'
include { SCGPT_EMBED    } from '../modules/scgpttools/scgpt/embed/main'

workflow PRETRAIN {
    take:
    samples // channel: [meta, cells]
    corpora // channel: [meta, folder]
    ordered // channel: folders of all corpora, in order
    checkpoint // model to go on from, or []
    gene_conditions // file of the categories of genes, or []

    main:
    SCGPT_PRETRAIN(ordered.map { folders -> [[id: 'model'], folders] }, checkpoint, gene_conditions)
    model = SCGPT_PRETRAIN.out.model
    // Only AnnData files can be given an embedding, and only samples that could be tokenised.
    usable = samples
        .join(corpora)
        .filter { _meta, cells, _corpus -> cells.name.endsWith('.h5ad') }
        .map { meta, cells, _corpus -> [meta, cells] }
    SCGPT_EMBED(usable, model)
    embedded = SCGPT_EMBED.out.h5ad

    files = model
        .mix(corpora, embedded, SCGPT_EMBED.out.record)
        .map { _meta, file -> file }

    emit:
    files // channel: what the report is made of
    model // channel: [meta, folder]
    embedded // channel: [meta, cells]
}
