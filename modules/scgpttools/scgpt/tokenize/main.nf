process SCGPT_TOKENIZE {
    tag "${meta.id}"
    label 'process_medium'

    conda "${moduleDir}/environment.yml"
    container "quay.io/scgpt-tools/scgpt-tools:0.1.0-cpu"

    input:
    tuple val(meta), path(input), path(samples)
    path vocab
    path genes
    path gene_map
    path aliases

    output:
    tuple val(meta), path("${prefix}"), emit: corpus
    tuple val(meta), path("${prefix}/genes.tsv"), emit: gene_report
    tuple val(meta), path("${prefix}/run.json"), emit: record
    tuple val("${task.process}"), val('scgpt-tokenize'), eval('scgpt-tokenize --version | sed "s/.* //"'), topic: versions, emit: versions_scgpt

    when:
    task.ext.when == null || task.ext.when

    script:
    def args = task.ext.args ?: ''
    prefix = task.ext.prefix ?: "${meta.id}"
    def cells = samples ? "--samples ${samples}" : "--input ${input.join(',')}"
    def tables = [
        vocab ? "--vocab ${vocab}" : '',
        genes ? "--genes ${genes}" : '',
        gene_map ? "--gene-map ${gene_map}" : '',
        aliases ? "--aliases ${aliases}" : '',
    ].join(' ')
    def memory = task.memory ? "--memory ${(task.memory.toMega() * 0.8).toInteger()}M" : ''
    """
    scgpt-tokenize \\
        ${cells} \\
        --output ${prefix} \\
        ${tables} \\
        ${memory} \\
        --threads ${task.cpus} \\
        ${args}
    """

    stub:
    def args = task.ext.args ?: ''
    prefix = task.ext.prefix ?: "${meta.id}"
    """
    echo ${args}

    mkdir ${prefix}
    touch ${prefix}/cells-00000.parquet ${prefix}/vocab.json ${prefix}/manifest.json ${prefix}/genes.tsv
    echo '{}' > ${prefix}/run.json
    """
}
