// Finds gene programs and networks in the cells of many samples with one model: the genes of a sample are chosen once, attention is
// told condition by condition in parallel, and compared, explained by known gene sets and held against known regulation.

include { SCGPT_GRNPROGRAMS   } from '../modules/scgpttools/scgpt/grnprograms/main'
include { SCGPT_GRNATTENTION  } from '../modules/scgpttools/scgpt/grnattention/main'
include { SCGPT_GRNDIFFERENCE } from '../modules/scgpttools/scgpt/grndifference/main'
include { SCGPT_GRNENRICH     } from '../modules/scgpttools/scgpt/grnenrich/main'
include { SCGPT_GRNEVALUATE   } from '../modules/scgpttools/scgpt/grnevaluate/main'
include { labelled            } from './tables'

workflow GRN {
    take:
    samples // channel: [meta, cells]
    model // channel: [meta, folder of a model]
    genes // genes to look at, one a line, or [] for the highly variable ones
    conditions // column of obs with the conditions, or [] to take all cells together
    compared // conditions to look at, each in a task of its own, or [] for all that a sample has, in one task
    control // condition that the others are compared with, or []
    regulators // regulators, one a line, or []
    sets // known gene sets, or []
    truth // known regulation, or []

    main:
    wanted = (control && compared ? [control] + compared : compared).unique(false)
    if (wanted.collect { condition -> word(condition) }.toSet().size() < wanted.size()) {
        error("conditions ${wanted}: files are named after them, and two differ only in signs that names of files cannot have")
    }
    SCGPT_GRNPROGRAMS(samples.map { meta, cells -> [named(meta, 'programs'), cells, conditions, wanted] }, model, genes, [])
    programs = SCGPT_GRNPROGRAMS.out.programs
    chosen = SCGPT_GRNPROGRAMS.out.h5ad.map { meta, found -> [meta.sample, found] }
    asked = samples
        .map { meta, cells -> [meta.id, meta, cells] }
        .join(chosen)
        .flatMap { _sample, meta, cells, found ->
            wanted
                ? wanted.collect { condition -> [named(meta, word(condition)), cells, conditions, [condition], [], found] }
                : [[named(meta, 'attention'), cells, conditions, [], [], found]]
        }
        .multiMap { meta, cells, column, only, none, found ->
            cells: [meta, cells, column, only, none]
            genes: found
        }
    SCGPT_GRNATTENTION(asked.cells, model, asked.genes, regulators)
    told = SCGPT_GRNATTENTION.out.h5ad
        .map { meta, network -> [meta.sample, network] }
        .groupTuple()
        .map { sample, networks -> [sample, networks.toSorted { network -> network.name }] }
    SCGPT_GRNDIFFERENCE(
        told.filter { control }.map { sample, networks -> [[id: "${sample}.difference".toString(), sample: sample], networks, control] },
        regulators,
    )
    compared_networks = SCGPT_GRNDIFFERENCE.out.h5ad.map { meta, network -> [meta.sample, [network]] }
    networks = control ? compared_networks : told
    edges = control ? SCGPT_GRNDIFFERENCE.out.edges : SCGPT_GRNATTENTION.out.edges
    lists = programs
        .map { meta, found -> [meta.sample, meta, found, []] }
        .mix(edges.map { meta, found -> [meta.sample, meta, [], found] })
        .combine(chosen, by: 0)
    explained = lists
        .filter { sets }
        .map { _sample, meta, groups, targets, found -> [meta + [id: "${meta.id}.enrichment".toString()], groups, targets, found] }
    SCGPT_GRNENRICH(explained, sets)
    scored = networks
        .join(chosen)
        .join(samples.map { meta, cells -> [meta.id, cells] })
        .filter { truth }
        .map { sample, all, found, cells -> [[id: "${sample}.evaluation".toString(), sample: sample], all + [found], cells] }
    SCGPT_GRNEVALUATE(scored, [], truth)
    strongest = lines(edges).collectFile(name: 'edges.tsv', keepHeader: true, skip: 1, sort: false, storeDir: params.outdir)
    enrichment = lines(SCGPT_GRNENRICH.out.tsv).collectFile(name: 'enrichment.tsv', keepHeader: true, skip: 1, sort: false, storeDir: params.outdir)
    evaluation = lines(SCGPT_GRNEVALUATE.out.tsv).collectFile(name: 'evaluation.tsv', keepHeader: true, skip: 1, sort: false, storeDir: params.outdir)

    files = SCGPT_GRNPROGRAMS.out.record
        .mix(SCGPT_GRNATTENTION.out.record, SCGPT_GRNDIFFERENCE.out.record)
        .mix(SCGPT_GRNENRICH.out.record, SCGPT_GRNEVALUATE.out.record)
        .mix(SCGPT_GRNPROGRAMS.out.h5ad, SCGPT_GRNATTENTION.out.h5ad, SCGPT_GRNDIFFERENCE.out.h5ad)
        .mix(SCGPT_GRNPROGRAMS.out.edges, edges)
        .map { _meta, file -> file }

    emit:
    files // channel: what the report is made of
    programs // channel: [meta, gene programs of a sample]
    networks // channel: [sample, networks of all conditions]
    strongest // channel: table of the strongest edges of all samples and conditions
    enrichment // channel: table of the gene sets that programs and targets are rich in
    evaluation // channel: table of the agreement with known regulation
}

// A part of what is told of a sample.
def named(meta, part) {
    return [id: "${meta.id}.${part}".toString(), sample: meta.id]
}

// The condition as names of files have it.
def word(condition) {
    return condition.replaceAll('[^A-Za-z0-9_+-]', '_')
}

// Texts of tables in the order of samples, which their first column tells.
def lines(tables) {
    return tables
        .toSortedList { a, b -> a[0].id <=> b[0].id }
        .flatMap { all -> all.collect { meta, table -> labelled(table, [sample: meta.sample]) } }
}
