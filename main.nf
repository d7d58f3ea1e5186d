#!/usr/bin/env nextflow

include { SAMPLES   } from './workflows/samples'
include { ANNOTATE  } from './workflows/annotate'
include { CORPORA   } from './workflows/corpora'
include { TOKENIZE  } from './workflows/tokenize'
include { PRETRAIN  } from './workflows/pretrain'
include { INTEGRATE } from './workflows/integrate'
include { PERTURB   } from './workflows/perturb'
include { REPORT    } from './workflows/report'
include { ATLAS     } from './workflows/atlas'
include { GRN       } from './workflows/grn'

workflow {
    demand(params.input, "`--input` is missing: give a sample sheet, a CSV with the columns `sample` and `path`")
    SAMPLES(params.input, params.analysis in ['integrate', 'map'] ? ['sample', 'modality'] : ['sample'])
    if (params.analysis == 'annotate') {
        demand(
            params.model || params.reference && params.labels,
            "give a fine-tuned model by `--model`, or labelled cells by `--reference` and their column of cell types by `--labels`",
        )
        ANNOTATE(SAMPLES.out.rows, params.model, params.reference, params.labels, given(params.checkpoint))
        files = ANNOTATE.out.files
    }
    else if (params.analysis == 'tokenize') {
        CORPORA(SAMPLES.out.rows, given(params.vocab), given(params.genes), given(params.gene_map), given(params.aliases))
        TOKENIZE(CORPORA.out.ordered, given(params.vocab))
        files = TOKENIZE.out.files
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
        files = PRETRAIN.out.files
    }
    else if (params.analysis == 'integrate') {
        INTEGRATE(SAMPLES.out.rows, 'integrated', given(params.checkpoint))
        files = INTEGRATE.out.files
    }
    else if (params.analysis == 'map') {
        demand(params.model, "`--model` is missing: give the model that `--analysis integrate` trained, a folder")
        INTEGRATE(SAMPLES.out.rows, 'mapped', given(params.model))
        files = INTEGRATE.out.files
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
        files = PERTURB.out.files
    }
    else if (params.analysis == 'grn') {
        demand(params.checkpoint, "`--checkpoint` is missing: give a model, a folder")
        demand(
            params.conditions || !params.control && !params.compare,
            "`--control` and `--compare` name conditions: give the column they are labels of by `--conditions`",
        )
        GRN(
            SAMPLES.out.rows,
            channel.value([[id: file(params.checkpoint).name], file(params.checkpoint, checkIfExists: true)]),
            given(params.genes),
            params.conditions ?: [],
            names(params.compare),
            params.control ?: [],
            given(params.regulators),
            given(params.gene_sets),
            given(params.truth),
        )
        files = GRN.out.files
    }
    else if (params.analysis == 'all') {
        demand(
            params.reference && params.labels,
            "give labelled cells by `--reference` and their column of cell types by `--labels`",
        )
        demand(
            !params.perturbed || params.questions,
            "`--questions` is missing: give a CSV with the column `question`, and `perturb`, `query`, or `column` and `target`",
        )
        // One model is pre-trained on all samples, and everything else starts from it.
        CORPORA(SAMPLES.out.rows, given(params.vocab), given(params.genes), given(params.gene_map), given(params.aliases))
        PRETRAIN(
            SAMPLES.out.rows,
            CORPORA.out.corpora,
            CORPORA.out.ordered,
            given(params.checkpoint),
            given(params.gene_conditions),
        )
        model = PRETRAIN.out.model.first()
        trunk = model.map { _meta, folder -> folder }
        ANNOTATE(SAMPLES.out.rows, null, params.reference, params.labels, trunk)
        INTEGRATE(SAMPLES.out.rows, 'integrated', trunk)
        GRN(
            SAMPLES.out.rows,
            model,
            given(params.genes),
            params.conditions ?: [],
            names(params.compare),
            params.control ?: [],
            given(params.regulators),
            given(params.gene_sets),
            given(params.truth),
        )
        ATLAS(PRETRAIN.out.embedded, model, params.reference, params.labels)
        files = PRETRAIN.out.files.mix(ANNOTATE.out.files, INTEGRATE.out.files, GRN.out.files, ATLAS.out.files)
        if (params.perturbed) {
            PERTURB(
                channel.of([[id: 'perturbed'], file(params.perturbed, checkIfExists: true)]),
                params.questions,
                [],
                given(params.perturbed),
                trunk,
                [],
            )
            files = files.mix(PERTURB.out.files)
        }
    }
    else {
        error("`--analysis`: there is `annotate`, `tokenize`, `pretrain`, `integrate`, `map`, `perturb`, `grn` and `all`, found `${params.analysis}`")
    }
    REPORT(files)
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

// Items of a list with commas between them.
def names(text) {
    return (text ?: '').tokenize(',').collect { name -> name.trim() }
}

// A file that may be left out, as a process takes it.
def given(name) {
    return name ? file(name, checkIfExists: true) : []
}
