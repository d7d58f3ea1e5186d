// Gathers the corpora of many samples into one corpus with one vocabulary. Unless it is given, gathering gives the
// genes of all samples the ids that one run over all files would give them.

include { SCGPT_TOKENIZE as SCGPT_TOKENIZE_GATHER } from '../modules/scgpttools/scgpt/tokenize/main'

workflow TOKENIZE {
    take:
    ordered // channel: folders of all samples' corpora, in order
    vocab // vocab.json, the folder of a pre-trained model, or []

    main:
    parts = ordered.map { folders -> [[id: 'corpus'], folders, []] }
    SCGPT_TOKENIZE_GATHER(parts, vocab, [], [], [])
    corpus = SCGPT_TOKENIZE_GATHER.out.corpus

    files = corpus.map { _meta, folder -> folder }

    emit:
    files // channel: what the report is made of
    corpus // channel: [meta, folder]
}
