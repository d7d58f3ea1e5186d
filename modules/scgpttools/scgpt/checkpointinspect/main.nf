process SCGPT_CHECKPOINTINSPECT {
    tag "${meta.id}"
    label 'process_single'

    conda "${moduleDir}/environment.yml"
    container "quay.io/scgpt-tools/scgpt-tools:0.1.0-cpu"

    input:
    tuple val(meta), path(checkpoint)

    output:
    tuple val(meta), path("${prefix}.json"), emit: report
    tuple val(meta), path("${prefix}.run.json"), emit: record
    tuple val("${task.process}"), val('scgpt-checkpoint'), eval('scgpt-checkpoint --version | sed "s/.* //"'), topic: versions, emit: versions_scgpt

    when:
    task.ext.when == null || task.ext.when

    script:
    def args = task.ext.args ?: ''
    prefix = task.ext.prefix ?: "${meta.id}"
    """
    scgpt-checkpoint inspect \\
        ${checkpoint} \\
        --json \\
        --record ${prefix}.run.json \\
        --threads ${task.cpus} \\
        ${args} \\
        > ${prefix}.json
    """

    stub:
    def args = task.ext.args ?: ''
    prefix = task.ext.prefix ?: "${meta.id}"
    """
    echo ${args}

    echo '{}' > ${prefix}.json
    echo '{}' > ${prefix}.run.json
    """
}
