process SCGPT_FINETUNEPERTURBATION {
    tag "${meta.id}"
    label 'process_high'

    conda "${task.accelerator ? "${moduleDir}/environment.gpu.yml" : "${moduleDir}/environment.yml"}"
    container "${task.accelerator ? 'quay.io/scgpt-tools/scgpt-tools:0.1.0-cu130' : 'quay.io/scgpt-tools/scgpt-tools:0.1.0-cpu'}"

    input:
    tuple val(meta), path(input, stageAs: 'input/*')
    path checkpoint, stageAs: 'checkpoint/*'

    output:
    tuple val(meta), path("${prefix}"), emit: model
    tuple val(meta), path("${prefix}/test_metrics.json"), emit: metrics, optional: true
    tuple val(meta), path("${prefix}/*.svg"), emit: figures
    tuple val(meta), path("${prefix}/run.json"), emit: record
    tuple val("${task.process}"), val('scgpt-finetune-perturbation'), eval('scgpt-finetune-perturbation --version | sed "s/.* //"'), topic: versions, emit: versions_scgpt

    when:
    task.ext.when == null || task.ext.when

    script:
    def args = task.ext.args ?: ''
    prefix = task.ext.prefix ?: "${meta.id}"
    def pretrained = checkpoint ? "--checkpoint ${checkpoint}" : ''
    def device = task.accelerator ? 'cuda' : 'cpu'
    """
    scgpt-finetune-perturbation \\
        --input ${input} \\
        --output ${prefix} \\
        ${pretrained} \\
        --device ${device} \\
        --threads ${task.cpus} \\
        ${args}
    """

    stub:
    def args = task.ext.args ?: ''
    prefix = task.ext.prefix ?: "${meta.id}"
    """
    echo ${args}

    mkdir ${prefix}
    touch ${prefix}/args.json ${prefix}/vocab.json ${prefix}/model.safetensors ${prefix}/test_metrics.json ${prefix}/perturbation_splits.svg
    echo '{}' > ${prefix}/run.json
    """
}
