// Tokenises many samples in parallel, each into a corpus of its own. Unless a vocabulary is given, each sample's is its own genes.

include { SCGPT_TOKENIZE } from '../modules/scgpttools/scgpt/tokenize/main'
include { csv            } from './tables'

workflow CORPORA {
    take:
    samples // channel: [meta, cells]
    vocab // vocab.json, the folder of a pre-trained model, or []
    genes // file of genes to keep, or []
    gene_map // table of gene names, or []
    aliases // table of other names of genes, or []

    main:
    sheets = samples.collectFile { meta, cells ->
        def columns = meta.findAll { column, _value -> column != 'id' } + [path: cells.name]
        ["${meta.id}.sheet", csv(columns.keySet()) + csv(columns.values())]
    }
    with_sheets = samples
        .map { meta, cells -> [meta.id, meta, cells] }
        .join(sheets.map { sheet -> [sheet.baseName, sheet] })
        .map { _id, meta, cells, sheet -> [meta, cells, sheet] }
    SCGPT_TOKENIZE(with_sheets, vocab, genes, gene_map, aliases)
    corpora = SCGPT_TOKENIZE.out.corpus
    ordered = corpora.toSortedList { a, b -> a[0].id <=> b[0].id }.map { parts -> parts.collect { part -> part[1] } }
    gene_reports = SCGPT_TOKENIZE.out.gene_report.collectFile(storeDir: "${params.outdir}/genes") { meta, table ->
        ["${meta.id}.tsv", table]
    }

    emit:
    corpora // channel: [meta, folder]
    ordered // channel: all folders, in the order of their samples' names
    gene_reports // channel: table of what became of every gene of a sample
}
