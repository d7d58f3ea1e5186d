// Pre-trains one model on the corpora of all samples, and embeds every sample with it. The corpora may have different vocabularies: the
// model covers the genes of all.

include { SCGPT_PRETRAIN } from '../modules/scgpttools/scgpt/pretrain/main'
include { SCGPT_EMBED    } from '../modules/scgpttools/scgpt/embed/main'

workflow PRETRAIN {
    take:
    samples // channel: [meta, cells]
    corpora // channel: [meta, directory]
    ordered // channel: directories of all corpora, in order
    checkpoint // model to continue from, or []
    gene_conditions // file of gene categories, or []

    main:
    SCGPT_PRETRAIN(ordered.map { directories -> [[id: 'model'], directories] }, checkpoint, gene_conditions)
    model = SCGPT_PRETRAIN.out.model
    // Embeds AnnData files of samples that were tokenized; other formats cannot hold an embedding.
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
    files // channel: inputs of the report
    model // channel: [meta, directory]
    embedded // channel: [meta, cells]
}
