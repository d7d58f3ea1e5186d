process SCGPT_GRNPROGRAMS {
    tag "${meta.id}"
    label 'process_medium'

    conda "${task.accelerator ? "${moduleDir}/environment.gpu.yml" : "${moduleDir}/environment.yml"}"
    container "${task.accelerator ? 'quay.io/scgpt-tools/scgpt-tools:0.1.0-cu130' : 'quay.io/scgpt-tools/scgpt-tools:0.1.0-cpu'}"

    input:
    tuple val(meta), path(input, stageAs: 'input/*'), val(groups), val(subset)
    tuple val(meta2), path(checkpoint, stageAs: 'checkpoint/*')
    path genes_file, stageAs: 'genes/*'
    path gene_families, stageAs: 'gene_families/?/*'

    output:
    tuple val(meta), path("${prefix}.h5ad"), emit: h5ad
    tuple val(meta), path("${prefix}.gmt"), emit: programs
    tuple val(meta), path("${prefix}.edges.tsv"), emit: edges
    tuple val(meta), path("${prefix}.graphml"), emit: graph
    tuple val(meta), path("${prefix}.network.svg"), emit: network_plot
    tuple val(meta), path("${prefix}.program_scores.tsv"), emit: program_scores, optional: true
    tuple val(meta), path("${prefix}.svg"), emit: plot, optional: true
    tuple val(meta), path("${prefix}.scored_cells.h5ad"), emit: scored_cells, optional: true
    tuple val(meta), path("${prefix}.similar_genes.tsv"), emit: similar_genes, optional: true
    tuple val(meta), path("${prefix}.family_test.tsv"), emit: family_test, optional: true
    tuple val(meta), path("${prefix}.run.json"), emit: record
    tuple val("${task.process}"), val('scgpt-grn'), eval('scgpt-grn --version | sed "s/.* //"'), topic: versions, emit: versions_scgpt

    when:
    task.ext.when == null || task.ext.when

    script:
    def args = task.ext.args ?: ''
    prefix = task.ext.prefix ?: "${meta.id}"
    def cells = input ? "--input ${input}" : ''
    def grouped = groups ? "--groups '${groups}' --program-scores ${prefix}.program_scores.tsv --plot ${prefix}.svg" : ''
    def selected = subset ? "--subset '${[subset].flatten().join(',')}'" : ''
    def genes = genes_file ? "--genes-file ${genes_file}" : ''
    def scored = task.ext.scored_cells ? "--scored-cells ${prefix}.scored_cells.h5ad" : ''
    def similar = task.ext.similar_to ? "--similar-to '${task.ext.similar_to}' --similar-genes ${prefix}.similar_genes.tsv" : ''
    def families = gene_families ? "--gene-families ${[gene_families].flatten().join(',')} --family-test ${prefix}.family_test.tsv" : ''
    def device = task.accelerator ? 'cuda' : 'cpu'
    """
    scgpt-grn programs \\
        --checkpoint ${checkpoint} \\
        --output ${prefix}.h5ad \\
        --programs ${prefix}.gmt \\
        --edges ${prefix}.edges.tsv \\
        --graph ${prefix}.graphml \\
        --network-plot ${prefix}.network.svg \\
        --record ${prefix}.run.json \\
        ${cells} \\
        ${grouped} \\
        ${selected} \\
        ${genes} \\
        ${scored} \\
        ${similar} \\
        ${families} \\
        --device ${device} \\
        --threads ${task.cpus} \\
        ${args}
    """

    stub:
    def args = task.ext.args ?: ''
    prefix = task.ext.prefix ?: "${meta.id}"
    """
    echo ${args}

    touch ${prefix}.h5ad ${prefix}.edges.tsv ${prefix}.graphml ${prefix}.network.svg ${prefix}.program_scores.tsv ${prefix}.svg
    printf 'program_0\\t\\tGENE\\n' > ${prefix}.gmt
    echo '{}' > ${prefix}.run.json
    """
}
