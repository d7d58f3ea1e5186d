process SCGPT_MAPREFERENCEBUILD {
    tag "${meta.id}"
    label 'process_medium'

    conda "${moduleDir}/environment.yml"
    container "quay.io/scgpt-tools/scgpt-tools:0.1.0-cpu"

    input:
    tuple val(meta), path(input, stageAs: 'input/*'), val(label)
    path add_to, stageAs: 'add_to/*'

    output:
    tuple val(meta), path("${prefix}"), emit: index
    tuple val(meta), path("${prefix}.run.json"), emit: record
    tuple val("${task.process}"), val('scgpt-map-reference'), eval('scgpt-map-reference --version | sed "s/.* //"'), topic: versions, emit: versions_scgpt

    when:
    task.ext.when == null || task.ext.when

    script:
    def args = task.ext.args ?: ''
    prefix = task.ext.prefix ?: "${meta.id}"
    def labeled = label ? "--label '${label}'" : ''
    def extended = add_to ? "--add-to ${add_to}" : ''
    """
    scgpt-map-reference build \\
        --input ${[input].flatten().join(',')} \\
        --output ${prefix} \\
        --record ${prefix}.run.json \\
        ${labeled} \\
        ${extended} \\
        --threads ${task.cpus} \\
        ${args}
    """

    stub:
    def args = task.ext.args ?: ''
    prefix = task.ext.prefix ?: "${meta.id}"
    """
    echo ${args}

    mkdir ${prefix}
    echo '{}' > ${prefix}/manifest.json
    echo '{}' > ${prefix}.run.json
    """
}
