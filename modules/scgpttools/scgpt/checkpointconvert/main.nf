process SCGPT_CHECKPOINTCONVERT {
    tag "${meta.id}"
    label 'process_single'

    conda "${moduleDir}/environment.yml"
    container "quay.io/scgpt-tools/scgpt-tools:0.1.0-cpu"

    input:
    tuple val(meta), path(checkpoint, stageAs: 'checkpoint/*')

    output:
    tuple val(meta), path("${prefix}"), emit: model
    tuple val(meta), path("${prefix}.run.json"), emit: record
    tuple val("${task.process}"), val('scgpt-checkpoint'), eval('scgpt-checkpoint --version | sed "s/.* //"'), topic: versions, emit: versions_scgpt

    when:
    task.ext.when == null || task.ext.when

    script:
    def args = task.ext.args ?: ''
    prefix = task.ext.prefix ?: "${meta.id}"
    """
    scgpt-checkpoint convert \\
        ${checkpoint} \\
        ${prefix} \\
        --record ${prefix}.run.json \\
        --threads ${task.cpus} \\
        ${args}
    """

    stub:
    def args = task.ext.args ?: ''
    prefix = task.ext.prefix ?: "${meta.id}"
    """
    echo ${args}

    mkdir ${prefix}
    touch ${prefix}/args.json ${prefix}/vocab.json ${prefix}/model.safetensors
    echo '{}' > ${prefix}.run.json
    """
}
