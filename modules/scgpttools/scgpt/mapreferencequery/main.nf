process SCGPT_MAPREFERENCEQUERY {
    tag "${meta.id}"
    label 'process_medium'

    conda "${moduleDir}/environment.yml"
    container "quay.io/scgpt-tools/scgpt-tools:0.1.0-cpu"

    input:
    tuple val(meta), path(input, stageAs: 'input/*'), val(true_labels)
    tuple val(meta2), path(index, stageAs: 'index/*')
    path baseline, stageAs: 'baseline/*'

    output:
    tuple val(meta), path("${prefix}.h5ad"), emit: h5ad
    tuple val(meta), path("${prefix}.tsv"), emit: table
    tuple val(meta), path("${prefix}.svg"), emit: plot
    tuple val(meta), path("${prefix}.metrics.tsv"), emit: metrics, optional: true
    tuple val(meta), path("${prefix}.run.json"), emit: record
    tuple val("${task.process}"), val('scgpt-map-reference'), eval('scgpt-map-reference --version | sed "s/.* //"'), topic: versions, emit: versions_scgpt

    when:
    task.ext.when == null || task.ext.when

    script:
    def args = task.ext.args ?: ''
    prefix = task.ext.prefix ?: "${meta.id}"
    def evaluated = true_labels ? "--true-labels '${true_labels}' --metrics ${prefix}.metrics.tsv" : ''
    def compared = baseline ? "--baseline ${[baseline].flatten().join(',')}" : ''
    """
    scgpt-map-reference query \\
        --input ${input} \\
        --index ${index} \\
        --output ${prefix}.h5ad \\
        --table ${prefix}.tsv \\
        --plot ${prefix}.svg \\
        --record ${prefix}.run.json \\
        ${evaluated} \\
        ${compared} \\
        --threads ${task.cpus} \\
        ${args}
    """

    stub:
    def args = task.ext.args ?: ''
    prefix = task.ext.prefix ?: "${meta.id}"
    """
    echo ${args}

    touch ${prefix}.h5ad ${prefix}.tsv ${prefix}.svg
    echo '{}' > ${prefix}.run.json
    """
}
