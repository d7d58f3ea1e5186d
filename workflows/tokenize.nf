// Tokenises many samples in parallel, and gathers them into one corpus with one vocabulary. Unless it is given, gathering gives the
// genes of all samples the ids that one run over all files would give them.

include { CORPORA                                  } from './corpora'
include { given                                    } from './corpora'
include { SCGPT_TOKENIZE as SCGPT_TOKENIZE_GATHER } from '../modules/scgpttools/scgpt/tokenize/main'

workflow TOKENIZE {
    take:
    samples // channel: [meta, cells]
    vocab // vocab.json, the folder of a pre-trained model, or null
    genes // file of genes to keep, or null
    gene_map // table of gene names, or null
    aliases // table of other names of genes, or null

    main:
    CORPORA(samples, vocab, genes, gene_map, aliases)
    parts = CORPORA.out.ordered.map { folders -> [[id: 'corpus'], folders, []] }
    SCGPT_TOKENIZE_GATHER(parts, given(vocab), [], [], [])
    corpus = SCGPT_TOKENIZE_GATHER.out.corpus
    gene_reports = CORPORA.out.gene_reports

    emit:
    corpus // channel: [meta, folder]
    gene_reports // channel: table of what became of every gene of a sample
}
