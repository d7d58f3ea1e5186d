// Infers gene programs and gene networks of many samples with one model. The genes of a sample are selected once; attention is computed
// in parallel for each condition, compared between conditions, tested for enriched gene sets and evaluated against known edges.

include { SCGPT_GRNPROGRAMS   } from '../modules/scgpttools/scgpt/grnprograms/main'
include { SCGPT_GRNATTENTION  } from '../modules/scgpttools/scgpt/grnattention/main'
include { SCGPT_GRNDIFFERENCE } from '../modules/scgpttools/scgpt/grndifference/main'
include { SCGPT_GRNENRICH     } from '../modules/scgpttools/scgpt/grnenrich/main'
include { SCGPT_GRNEVALUATE   } from '../modules/scgpttools/scgpt/grnevaluate/main'
include { labeled            } from './tables'

workflow GRN {
    take:
    samples // channel: [meta, cells]
    model // channel: [meta, directory of a model]
    genes // genes to include, one per line, or [] for highly variable genes
    conditions // column of obs with the conditions, or [] to pool all cells
    compared // conditions to include, one task for each, or [] for all conditions of a sample in one task
    control // control condition, or []
    regulators // regulators, one per line, or []
    gene_sets // gene sets (GMT), or []
    known_edges // table of known edges, or []

    main:
    selected = (control && compared ? [control] + compared : compared).unique(false)
    if (selected.collect { condition -> filename(condition) }.toSet().size() < selected.size()) {
        error("conditions ${selected}: two of them give the same file name; rename one, using letters, digits, `_`, `+` and `-`")
    }
    SCGPT_GRNPROGRAMS(samples.map { meta, cells -> [with_step(meta, 'programs'), cells, conditions, selected] }, model, genes, [])
    programs = SCGPT_GRNPROGRAMS.out.programs
    gene_files = SCGPT_GRNPROGRAMS.out.h5ad.map { meta, gene_file -> [meta.sample, gene_file] }
    requests = samples
        .map { meta, cells -> [meta.id, meta, cells] }
        .join(gene_files)
        .flatMap { _sample, meta, cells, gene_file ->
            selected
                ? selected.collect { condition -> [with_step(meta, filename(condition)), cells, conditions, [condition], [], gene_file] }
                : [[with_step(meta, 'attention'), cells, conditions, [], [], gene_file]]
        }
        .multiMap { meta, cells, column, subset, no_control, gene_file ->
            cells: [meta, cells, column, subset, no_control]
            genes: gene_file
        }
    SCGPT_GRNATTENTION(requests.cells, model, requests.genes, regulators)
    attention = SCGPT_GRNATTENTION.out.h5ad
        .map { meta, network -> [meta.sample, network] }
        .groupTuple()
        .map { sample, networks -> [sample, networks.toSorted { network -> network.name }] }
    SCGPT_GRNDIFFERENCE(
        attention.filter { control }.map { sample, networks -> [[id: "${sample}.difference".toString(), sample: sample], networks, control] },
        regulators,
    )
    compared_networks = SCGPT_GRNDIFFERENCE.out.h5ad.map { meta, network -> [meta.sample, [network]] }
    networks = control ? compared_networks : attention
    edges = control ? SCGPT_GRNDIFFERENCE.out.edges : SCGPT_GRNATTENTION.out.edges
    queries = programs
        .map { meta, gmt -> [meta.sample, meta, gmt, []] }
        .mix(edges.map { meta, table -> [meta.sample, meta, [], table] })
        .combine(gene_files, by: 0)
        .filter { gene_sets }
        .map { _sample, meta, gmt, table, background -> [meta + [id: "${meta.id}.enrichment".toString()], gmt, table, background] }
    SCGPT_GRNENRICH(queries, gene_sets)
    evaluated = networks
        .join(gene_files)
        .join(samples.map { meta, cells -> [meta.id, cells] })
        .filter { known_edges }
        .map { sample, all, gene_file, cells -> [[id: "${sample}.evaluation".toString(), sample: sample], all + [gene_file], cells] }
    SCGPT_GRNEVALUATE(evaluated, [], known_edges)
    top_edges = lines(edges).collectFile(name: 'edges.tsv', keepHeader: true, skip: 1, sort: false, storeDir: params.outdir)
    enrichment = lines(SCGPT_GRNENRICH.out.tsv).collectFile(name: 'enrichment.tsv', keepHeader: true, skip: 1, sort: false, storeDir: params.outdir)
    evaluation = lines(SCGPT_GRNEVALUATE.out.tsv).collectFile(name: 'evaluation.tsv', keepHeader: true, skip: 1, sort: false, storeDir: params.outdir)

    files = SCGPT_GRNPROGRAMS.out.record
        .mix(SCGPT_GRNATTENTION.out.record, SCGPT_GRNDIFFERENCE.out.record)
        .mix(SCGPT_GRNENRICH.out.record, SCGPT_GRNEVALUATE.out.record)
        .mix(SCGPT_GRNPROGRAMS.out.h5ad, SCGPT_GRNATTENTION.out.h5ad, SCGPT_GRNDIFFERENCE.out.h5ad)
        .mix(SCGPT_GRNPROGRAMS.out.edges, edges)
        .map { _meta, file -> file }

    emit:
    files // channel: inputs of the report
    programs // channel: [meta, gene programs]
    networks // channel: [sample, networks of all conditions]
    top_edges // channel: table of the strongest edges of all samples and conditions
    enrichment // channel: table of enriched gene sets of programs and targets
    evaluation // channel: table of the evaluation against known edges
}

// Meta map of one step of a sample.
def with_step(meta, step) {
    return [id: "${meta.id}.${step}".toString(), sample: meta.id]
}

// A condition as part of a file name.
def filename(condition) {
    return condition.replaceAll('[^A-Za-z0-9_+-]', '_')
}

// Texts of tables, sorted by sample, with the sample as first column.
def lines(tables) {
    return tables
        .toSortedList { a, b -> a[0].id <=> b[0].id }
        .flatMap { all -> all.collect { meta, table -> labeled(table, [sample: meta.sample]) } }
}
