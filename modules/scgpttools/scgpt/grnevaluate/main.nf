process SCGPT_GRNEVALUATE {
    tag "${meta.id}"
    label 'process_medium'

    conda "${moduleDir}/environment.yml"
    container "quay.io/scgpt-tools/scgpt-tools:0.1.0-cpu"

    input:
    tuple val(meta), path(networks, stageAs: 'networks/?/*'), path(input, stageAs: 'input/*')
    path edges, stageAs: 'edges/?/*'
    path known_edges, stageAs: 'known_edges/?/*'

    output:
    tuple val(meta), path("${prefix}.tsv"), emit: tsv
    tuple val(meta), path("${prefix}.run.json"), emit: record
    tuple val("${task.process}"), val('scgpt-grn'), eval('scgpt-grn --version | sed "s/.* //"'), topic: versions, emit: versions_scgpt

    when:
    task.ext.when == null || task.ext.when

    script:
    def args = task.ext.args ?: ''
    prefix = task.ext.prefix ?: "${meta.id}"
    def tables = edges ? "--edges ${[edges].flatten().join(',')}" : ''
    def cells = input ? "--input ${input}" : ''
    """
    scgpt-grn evaluate \\
        --networks ${[networks].flatten().join(',')} \\
        --known-edges ${[known_edges].flatten().join(',')} \\
        --output ${prefix}.tsv \\
        --record ${prefix}.run.json \\
        ${tables} \\
        ${cells} \\
        --threads ${task.cpus} \\
        ${args}
    """

    stub:
    def args = task.ext.args ?: ''
    prefix = task.ext.prefix ?: "${meta.id}"
    """
    echo ${args}

    printf 'method\\tregulator\\n' > ${prefix}.tsv
    echo '{}' > ${prefix}.run.json
    """
}
