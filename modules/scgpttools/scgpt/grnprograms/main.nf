process SCGPT_GRNPROGRAMS {
    tag "${meta.id}"
    label 'process_medium'

    conda "${task.accelerator ? "${moduleDir}/environment.gpu.yml" : "${moduleDir}/environment.yml"}"
    container "${task.accelerator ? 'quay.io/scgpt-tools/scgpt-tools:0.1.0-cu130' : 'quay.io/scgpt-tools/scgpt-tools:0.1.0-cpu'}"

    input:
    tuple val(meta), path(input, stageAs: 'input/*'), val(groups), val(only)
    tuple val(meta2), path(checkpoint, stageAs: 'checkpoint/*')
    path genes_file, stageAs: 'genes/*'
    path families, stageAs: 'families/?/*'

    output:
    tuple val(meta), path("${prefix}.h5ad"), emit: h5ad
    tuple val(meta), path("${prefix}.gmt"), emit: programs
    tuple val(meta), path("${prefix}.edges.tsv"), emit: edges
    tuple val(meta), path("${prefix}.graphml"), emit: graph
    tuple val(meta), path("${prefix}.network.svg"), emit: drawing
    tuple val(meta), path("${prefix}.scores.tsv"), emit: scores, optional: true
    tuple val(meta), path("${prefix}.svg"), emit: figure, optional: true
    tuple val(meta), path("${prefix}.scored.h5ad"), emit: scored, optional: true
    tuple val(meta), path("${prefix}.nearest.tsv"), emit: nearest_table, optional: true
    tuple val(meta), path("${prefix}.families.tsv"), emit: family_table, optional: true
    tuple val(meta), path("${prefix}.run.json"), emit: record
    tuple val("${task.process}"), val('scgpt-grn'), eval('scgpt-grn --version | sed "s/.* //"'), topic: versions, emit: versions_scgpt

    when:
    task.ext.when == null || task.ext.when

    script:
    def args = task.ext.args ?: ''
    prefix = task.ext.prefix ?: "${meta.id}"
    def cells = input ? "--input ${input}" : ''
    def grouped = groups ? "--groups '${groups}' --scores ${prefix}.scores.tsv --figure ${prefix}.svg" : ''
    def some = only ? "--only '${[only].flatten().join(',')}'" : ''
    def listed = genes_file ? "--genes-file ${genes_file}" : ''
    def scored = task.ext.scored ? "--scored ${prefix}.scored.h5ad" : ''
    def nearest = task.ext.nearest ? "--nearest '${task.ext.nearest}' --nearest-table ${prefix}.nearest.tsv" : ''
    def related = families ? "--families ${[families].flatten().join(',')} --family-table ${prefix}.families.tsv" : ''
    def device = task.accelerator ? 'cuda' : 'cpu'
    """
    scgpt-grn programs \\
        --checkpoint ${checkpoint} \\
        --output ${prefix}.h5ad \\
        --programs ${prefix}.gmt \\
        --edges ${prefix}.edges.tsv \\
        --graph ${prefix}.graphml \\
        --drawing ${prefix}.network.svg \\
        --record ${prefix}.run.json \\
        ${cells} \\
        ${grouped} \\
        ${some} \\
        ${listed} \\
        ${scored} \\
        ${nearest} \\
        ${related} \\
        --device ${device} \\
        --threads ${task.cpus} \\
        ${args}
    """

    stub:
    def args = task.ext.args ?: ''
    prefix = task.ext.prefix ?: "${meta.id}"
    """
    echo ${args}

    touch ${prefix}.h5ad ${prefix}.edges.tsv ${prefix}.graphml ${prefix}.network.svg ${prefix}.scores.tsv ${prefix}.svg
    printf 'program_0\\t\\tGENE\\n' > ${prefix}.gmt
    echo '{}' > ${prefix}.run.json
    """
}
