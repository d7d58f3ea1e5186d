process SCGPT_GRNDIFFERENCE {
    tag "${meta.id}"
    label 'process_single'

    conda "${moduleDir}/environment.yml"
    container "quay.io/scgpt-tools/scgpt-tools:0.1.0-cpu"

    input:
    tuple val(meta), path(input, stageAs: 'input/?/*'), val(control)
    path regulators_file, stageAs: 'regulators/*'

    output:
    tuple val(meta), path("${prefix}.h5ad"), emit: h5ad
    tuple val(meta), path("${prefix}.edges.tsv"), emit: edges
    tuple val(meta), path("${prefix}.graphml"), emit: graph
    tuple val(meta), path("${prefix}.network.svg"), emit: network_plot
    tuple val(meta), path("${prefix}.svg"), emit: plot
    tuple val(meta), path("${prefix}.run.json"), emit: record
    tuple val("${task.process}"), val('scgpt-grn'), eval('scgpt-grn --version | sed "s/.* //"'), topic: versions, emit: versions_scgpt

    when:
    task.ext.when == null || task.ext.when

    script:
    def args = task.ext.args ?: ''
    prefix = task.ext.prefix ?: "${meta.id}"
    def regulators = regulators_file ? "--regulators-file ${regulators_file}" : ''
    """
    scgpt-grn difference \\
        --input ${[input].flatten().join(',')} \\
        --control '${control}' \\
        --output ${prefix}.h5ad \\
        --edges ${prefix}.edges.tsv \\
        --graph ${prefix}.graphml \\
        --network-plot ${prefix}.network.svg \\
        --plot ${prefix}.svg \\
        --record ${prefix}.run.json \\
        ${regulators} \\
        --threads ${task.cpus} \\
        ${args}
    """

    stub:
    def args = task.ext.args ?: ''
    prefix = task.ext.prefix ?: "${meta.id}"
    """
    echo ${args}

    printf 'condition\\tregulator\\n' > ${prefix}.edges.tsv
    touch ${prefix}.h5ad ${prefix}.graphml ${prefix}.network.svg ${prefix}.svg
    echo '{}' > ${prefix}.run.json
    """
}
