#!/usr/bin/env nextflow

include { SAMPLES   } from './workflows/samples'
include { ANNOTATE  } from './workflows/annotate'
include { CORPORA   } from './workflows/corpora'
include { TOKENIZE  } from './workflows/tokenize'
include { PRETRAIN  } from './workflows/pretrain'
include { INTEGRATE } from './workflows/integrate'
include { PERTURB   } from './workflows/perturb'

workflow {
    demand(params.input, "`--input` is missing: give a sample sheet, a CSV with the columns `sample` and `path`")
    SAMPLES(params.input, params.analysis in ['integrate', 'map'] ? ['sample', 'modality'] : ['sample'])
    if (params.analysis == 'annotate') {
        demand(
            params.model || params.reference && params.labels,
            "give a fine-tuned model by `--model`, or labelled cells by `--reference` and their column of cell types by `--labels`",
        )
        ANNOTATE(SAMPLES.out.rows, params.model, params.reference, params.labels, params.checkpoint)
    }
    else if (params.analysis == 'tokenize') {
        CORPORA(SAMPLES.out.rows, given(params.vocab), given(params.genes), given(params.gene_map), given(params.aliases))
        TOKENIZE(CORPORA.out.ordered, given(params.vocab))
    }
    else if (params.analysis == 'pretrain') {
        demand(
            !params.containsKey('tokenize_min_cells') && !params.containsKey('tokenize_n_hvg'),
            "`--tokenize_min_cells` and `--tokenize_n_hvg` choose genes over all samples, which are tokenised one by one here: choose genes by `--genes` or `--vocab`",
        )
        CORPORA(SAMPLES.out.rows, given(params.vocab), given(params.genes), given(params.gene_map), given(params.aliases))
        PRETRAIN(
            SAMPLES.out.rows,
            CORPORA.out.corpora,
            CORPORA.out.ordered,
            given(params.checkpoint),
            given(params.gene_conditions),
        )
    }
    else if (params.analysis == 'integrate') {
        INTEGRATE(SAMPLES.out.rows, 'integrated', given(params.checkpoint))
    }
    else if (params.analysis == 'map') {
        demand(params.model, "`--model` is missing: give the model that `--analysis integrate` trained, a folder")
        INTEGRATE(SAMPLES.out.rows, 'mapped', given(params.model))
    }
    else if (params.analysis == 'perturb') {
        demand(params.model || params.reference, "give a trained model by `--model`, or perturbed cells to train one on by `--reference`")
        demand(
            params.questions,
            "`--questions` is missing: give a CSV with the column `question`, and `perturb`, `query`, or `column` and `target`",
        )
        PERTURB(
            SAMPLES.out.rows,
            params.questions,
            given(params.model),
            given(params.reference),
            given(params.checkpoint),
            given(params.genes),
        )
    }
    else {
        error("`--analysis`: there is `annotate`, `tokenize`, `pretrain`, `integrate`, `map` and `perturb`, found `${params.analysis}`")
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

// A file that may be left out, as a process takes it.
def given(name) {
    return name ? file(name, checkIfExists: true) : []
}
