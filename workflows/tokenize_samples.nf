// Tokenizes samples in parallel, one corpus each. Without `vocab`, the vocabulary of a sample is its own genes.

include { SCGPT_TOKENIZE } from '../modules/scgpttools/scgpt/tokenize/main'
include { csv            } from './tables'

workflow TOKENIZE_SAMPLES {
    take:
    samples // channel: [meta, cells]
    vocab // vocab.json, the directory of a pre-trained model, or []
    genes // file of genes to keep, or []
    gene_map // table of gene names to replace, or []
    aliases // table of gene aliases, or []

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
    corpora // channel: [meta, directory]
    ordered // channel: all directories, sorted by sample name
    gene_reports // channel: table of the mapping status of every gene of a sample
}
