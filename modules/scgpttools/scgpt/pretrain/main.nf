process SCGPT_PRETRAIN {
    tag "${meta.id}"
    label 'process_high'

    conda "${task.accelerator ? "${moduleDir}/environment.gpu.yml" : "${moduleDir}/environment.yml"}"
    container "${task.accelerator ? 'quay.io/scgpt-tools/scgpt-tools:0.1.0-cu130' : 'quay.io/scgpt-tools/scgpt-tools:0.1.0-cpu'}"

    input:
    tuple val(meta), path(input, stageAs: 'input/?/*')
    path checkpoint, stageAs: 'checkpoint/*'
    path gene_conditions, stageAs: 'gene_conditions/*'

    output:
    tuple val(meta), path("${prefix}"), emit: model
    tuple val(meta), path("${prefix}/run.json"), emit: record
    tuple val("${task.process}"), val('scgpt-pretrain'), eval('scgpt-pretrain --version | sed "s/.* //"'), topic: versions, emit: versions_scgpt

    when:
    task.ext.when == null || task.ext.when

    script:
    def args = task.ext.args ?: ''
    prefix = task.ext.prefix ?: "${meta.id}"
    def pretrained = checkpoint ? "--checkpoint ${checkpoint}" : ''
    def conditions = gene_conditions ? "--gene-conditions ${gene_conditions}" : ''
    // The shuffle buffer affects the result, so retries with more memory use the same size.
    def memory = args.contains("--memory") || !task.memory ? '' : '--memory=' + [1024, task.memory.toMega().intdiv(4)].min() + 'M'
    def device = task.accelerator ? 'cuda' : 'cpu'
    """
    scgpt-pretrain \\
        --input ${[input].flatten().join(',')} \\
        --output ${prefix} \\
        ${pretrained} \\
        ${conditions} \\
        ${memory} \\
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
    touch ${prefix}/args.json ${prefix}/vocab.json ${prefix}/model.safetensors ${prefix}/last.safetensors ${prefix}/metrics.jsonl
    echo '{}' > ${prefix}/run.json
    """
}
