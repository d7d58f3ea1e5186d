#!/usr/bin/env nextflow

include { SAMPLES  } from './workflows/samples'
include { ANNOTATE } from './workflows/annotate'
include { TOKENIZE } from './workflows/tokenize'

workflow {
    demand(params.input, "`--input` is missing: give a sample sheet, a CSV with the columns `sample` and `path`")
    SAMPLES(params.input)
    if (params.analysis == 'annotate') {
        demand(
            params.model || params.reference && params.labels,
            "give a fine-tuned model by `--model`, or labelled cells by `--reference` and their column of cell types by `--labels`",
        )
        ANNOTATE(SAMPLES.out.rows, params.model, params.reference, params.labels, params.checkpoint)
    }
    else if (params.analysis == 'tokenize') {
        TOKENIZE(SAMPLES.out.rows, params.vocab, params.genes, params.gene_map, params.aliases)
    }
    else {
        error("`--analysis`: there is `annotate` and `tokenize`, found `${params.analysis}`")
    }
    channel.topic('versions')
        .unique()
        .map { process, program, version -> "${process.tokenize(':')[-1]}: ${program} ${version}" }
        .collectFile(name: 'versions.txt', newLine: true, sort: true, storeDir: "${params.outdir}/pipeline_info")
}

def demand(given, message) {
    if (!given) {
        error(message)
    }
}
