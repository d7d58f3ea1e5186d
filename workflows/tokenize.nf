// Merges the corpora of all samples into one corpus with one vocabulary. Without `vocab`, genes get the same ids as in one run over all
// files.

include { SCGPT_TOKENIZE as SCGPT_TOKENIZE_GATHER } from '../modules/scgpttools/scgpt/tokenize/main'

workflow TOKENIZE {
    take:
    ordered // channel: directories of all samples' corpora, in order
    vocab // vocab.json, the directory of a pre-trained model, or []

    main:
    parts = ordered.map { directories -> [[id: 'corpus'], directories, []] }
    SCGPT_TOKENIZE_GATHER(parts, vocab, [], [], [])
    corpus = SCGPT_TOKENIZE_GATHER.out.corpus

    files = corpus.map { _meta, directory -> directory }

    emit:
    files // channel: inputs of the report
    corpus // channel: [meta, directory]
}
