// Tokenises many samples in parallel, pre-trains one model on all of them, and embeds every sample with it. Samples need no common
// vocabulary: the model learns the genes of all.

include { CORPORA        } from './corpora'
include { given          } from './corpora'
include { SCGPT_PRETRAIN } from '../modules/scgpttools/scgpt/pretrain/main'
include { SCGPT_EMBED    } from '../modules/scgpttools/scgpt/embed/main'

workflow PRETRAIN {
    take:
    samples // channel: [meta, cells]
    vocab // vocab.json or the folder of a pre-trained model, whose genes alone are kept, or null
    genes // file of genes to keep, or null
    gene_map // table of gene names, or null
    aliases // table of other names of genes, or null
    checkpoint // model to go on from, or null
    gene_conditions // file of the categories of genes, or null

    main:
    CORPORA(samples, vocab, genes, gene_map, aliases)
    corpora = CORPORA.out.ordered.map { folders -> [[id: 'model'], folders] }
    SCGPT_PRETRAIN(corpora, given(checkpoint), given(gene_conditions))
    model = SCGPT_PRETRAIN.out.model
    // Only AnnData files can be given an embedding, and only samples that could be tokenised.
    usable = samples
        .join(CORPORA.out.corpora)
        .filter { _meta, cells, _corpus -> cells.name.endsWith('.h5ad') }
        .map { meta, cells, _corpus -> [meta, cells] }
    SCGPT_EMBED(usable, model)
    embedded = SCGPT_EMBED.out.h5ad

    emit:
    model // channel: [meta, folder]
    embedded // channel: [meta, cells]
}
