process SCGPT_GRNATTENTION {
    tag "${meta.id}"
    label 'process_medium'

    conda "${task.accelerator ? "${moduleDir}/environment.gpu.yml" : "${moduleDir}/environment.yml"}"
    container "${task.accelerator ? 'quay.io/scgpt-tools/scgpt-tools:0.1.0-cu130' : 'quay.io/scgpt-tools/scgpt-tools:0.1.0-cpu'}"

    input:
    tuple val(meta), path(input, stageAs: 'input/*'), val(conditions), val(only), val(control)
    tuple val(meta2), path(checkpoint, stageAs: 'checkpoint/*')
    path genes_file, stageAs: 'genes/*'
    path regulators_file, stageAs: 'regulators/*'

    output:
    tuple val(meta), path("${prefix}.h5ad"), emit: h5ad
    tuple val(meta), path("${prefix}.edges.tsv"), emit: edges
    tuple val(meta), path("${prefix}.graphml"), emit: graph
    tuple val(meta), path("${prefix}.network.svg"), emit: drawing
    tuple val(meta), path("${prefix}.svg"), emit: figure
    tuple val(meta), path("${prefix}.run.json"), emit: record
    tuple val("${task.process}"), val('scgpt-grn'), eval('scgpt-grn --version | sed "s/.* //"'), topic: versions, emit: versions_scgpt

    when:
    task.ext.when == null || task.ext.when

    script:
    def args = task.ext.args ?: ''
    prefix = task.ext.prefix ?: "${meta.id}"
    def grouped = conditions ? "--conditions '${conditions}'" : ''
    def some = only ? "--only '${[only].flatten().join(',')}'" : ''
    def compared = control ? "--control '${control}'" : ''
    def listed = genes_file ? "--genes-file ${genes_file}" : ''
    def regulators = regulators_file ? "--regulators-file ${regulators_file}" : ''
    def device = task.accelerator ? 'cuda' : 'cpu'
    """
    scgpt-grn attention \\
        --input ${input} \\
        --checkpoint ${checkpoint} \\
        --output ${prefix}.h5ad \\
        --edges ${prefix}.edges.tsv \\
        --graph ${prefix}.graphml \\
        --drawing ${prefix}.network.svg \\
        --figure ${prefix}.svg \\
        --record ${prefix}.run.json \\
        ${grouped} \\
        ${some} \\
        ${compared} \\
        ${listed} \\
        ${regulators} \\
        --device ${device} \\
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
