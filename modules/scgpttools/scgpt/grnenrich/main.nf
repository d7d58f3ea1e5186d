process SCGPT_GRNENRICH {
    tag "${meta.id}"
    label 'process_single'

    conda "${moduleDir}/environment.yml"
    container "quay.io/scgpt-tools/scgpt-tools:0.1.0-cpu"

    input:
    tuple val(meta), path(gene_lists, stageAs: 'gene_lists/*'), path(edges, stageAs: 'edges/*'), path(background, stageAs: 'background/*')
    path gene_sets, stageAs: 'gene_sets/?/*'

    output:
    tuple val(meta), path("${prefix}.tsv"), emit: tsv
    tuple val(meta), path("${prefix}.run.json"), emit: record
    tuple val("${task.process}"), val('scgpt-grn'), eval('scgpt-grn --version | sed "s/.* //"'), topic: versions, emit: versions_scgpt

    when:
    task.ext.when == null || task.ext.when

    script:
    def args = task.ext.args ?: ''
    prefix = task.ext.prefix ?: "${meta.id}"
    def query = gene_lists ? "--gene-lists ${gene_lists}" : "--edges ${edges}"
    """
    scgpt-grn enrich \\
        ${query} \\
        --gene-sets ${[gene_sets].flatten().join(',')} \\
        --background ${background} \\
        --output ${prefix}.tsv \\
        --record ${prefix}.run.json \\
        --threads ${task.cpus} \\
        ${args}
    """

    stub:
    def args = task.ext.args ?: ''
    prefix = task.ext.prefix ?: "${meta.id}"
    """
    echo ${args}

    printf 'query\\tgene_set\\n' > ${prefix}.tsv
    echo '{}' > ${prefix}.run.json
    """
}
