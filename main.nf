#!/usr/bin/env nextflow

include { SAMPLES          } from './workflows/samples'
include { ANNOTATE         } from './workflows/annotate'
include { TOKENIZE_SAMPLES } from './workflows/tokenize_samples'
include { TOKENIZE         } from './workflows/tokenize'
include { PRETRAIN         } from './workflows/pretrain'
include { INTEGRATE        } from './workflows/integrate'
include { PERTURB          } from './workflows/perturb'
include { REPORT           } from './workflows/report'
include { BUILD_REFERENCE  } from './workflows/build_reference'
include { GRN              } from './workflows/grn'

workflow {
    demand(params.input, "`--input` is missing: give a sample sheet, a CSV with the columns `sample` and `path`")
    SAMPLES(params.input, params.analysis in ['integrate', 'map'] ? ['sample', 'modality'] : ['sample'])
    if (params.analysis == 'annotate') {
        demand(
            params.model || params.reference && params.labels,
            "provide a fine-tuned model with `--model`, or labeled cells with `--reference` and their cell type column with `--labels`",
        )
        ANNOTATE(SAMPLES.out.rows, params.model, params.reference, params.labels, given(params.checkpoint))
        files = ANNOTATE.out.files
    }
    else if (params.analysis == 'tokenize') {
        TOKENIZE_SAMPLES(SAMPLES.out.rows, given(params.vocab), given(params.genes), given(params.gene_map), given(params.aliases))
        TOKENIZE(TOKENIZE_SAMPLES.out.ordered, given(params.vocab))
        files = TOKENIZE.out.files
    }
    else if (params.analysis == 'pretrain') {
        demand(
            !params.containsKey('tokenize_min_cells') && !params.containsKey('tokenize_n_hvg'),
            "`--tokenize_min_cells` and `--tokenize_n_hvg` select genes over all samples, but samples are tokenized one by one here: select genes with `--genes` or `--vocab`",
        )
        TOKENIZE_SAMPLES(SAMPLES.out.rows, given(params.vocab), given(params.genes), given(params.gene_map), given(params.aliases))
        PRETRAIN(
            SAMPLES.out.rows,
            TOKENIZE_SAMPLES.out.corpora,
            TOKENIZE_SAMPLES.out.ordered,
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
        demand(params.model, "`--model` is missing: give the model directory that `--analysis integrate` wrote")
        INTEGRATE(SAMPLES.out.rows, 'mapped', given(params.model))
        files = INTEGRATE.out.files
    }
    else if (params.analysis == 'perturb') {
        demand(params.model || params.reference, "provide a fine-tuned model with `--model`, or perturbed cells to train on with `--reference`")
        demand(
            params.perturbation_queries,
            "`--perturbation_queries` is missing: give a CSV with the column `query_id`, and `perturb`, `query`, or `column` and `target`",
        )
        PERTURB(
            SAMPLES.out.rows,
            params.perturbation_queries,
            given(params.model),
            given(params.reference),
            given(params.checkpoint),
            given(params.genes),
        )
        files = PERTURB.out.files
    }
    else if (params.analysis == 'grn') {
        demand(params.checkpoint, "`--checkpoint` is missing: give a model directory")
        demand(
            params.conditions || !params.control && !params.compare,
            "`--control` and `--compare` name conditions: give their column of obs with `--conditions`",
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
            given(params.known_edges),
        )
        files = GRN.out.files
    }
    else if (params.analysis == 'all') {
        demand(
            params.reference && params.labels,
            "provide labeled cells with `--reference` and their cell type column with `--labels`",
        )
        demand(
            !params.perturbed_cells || params.perturbation_queries,
            "`--perturbation_queries` is missing: give a CSV with the column `query_id`, and `perturb`, `query`, or `column` and `target`",
        )
        // Pre-trains one model on all samples; all other steps start from it.
        TOKENIZE_SAMPLES(SAMPLES.out.rows, given(params.vocab), given(params.genes), given(params.gene_map), given(params.aliases))
        PRETRAIN(
            SAMPLES.out.rows,
            TOKENIZE_SAMPLES.out.corpora,
            TOKENIZE_SAMPLES.out.ordered,
            given(params.checkpoint),
            given(params.gene_conditions),
        )
        model = PRETRAIN.out.model.first()
        backbone = model.map { _meta, directory -> directory }
        ANNOTATE(SAMPLES.out.rows, null, params.reference, params.labels, backbone)
        INTEGRATE(SAMPLES.out.rows, 'integrated', backbone)
        GRN(
            SAMPLES.out.rows,
            model,
            given(params.genes),
            params.conditions ?: [],
            names(params.compare),
            params.control ?: [],
            given(params.regulators),
            given(params.gene_sets),
            given(params.known_edges),
        )
        BUILD_REFERENCE(PRETRAIN.out.embedded, model, params.reference, params.labels)
        files = PRETRAIN.out.files.mix(ANNOTATE.out.files, INTEGRATE.out.files, GRN.out.files, BUILD_REFERENCE.out.files)
        if (params.perturbed_cells) {
            PERTURB(
                channel.of([[id: 'perturbed'], file(params.perturbed_cells, checkIfExists: true)]),
                params.perturbation_queries,
                [],
                given(params.perturbed_cells),
                backbone,
                [],
            )
            files = files.mix(PERTURB.out.files)
        }
    }
    else {
        error("`--analysis` must be `annotate`, `tokenize`, `pretrain`, `integrate`, `map`, `perturb`, `grn` or `all`, found `${params.analysis}`")
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

// Items of a comma-separated list.
def names(text) {
    return (text ?: '').tokenize(',').collect { name -> name.trim() }
}

// An optional file as a process input: [] if not given.
def given(name) {
    return name ? file(name, checkIfExists: true) : []
}
