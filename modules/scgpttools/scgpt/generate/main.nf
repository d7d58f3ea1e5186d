process SCGPT_GENERATE {
    tag "${meta.id}"
    label 'process_medium'

    conda "${task.accelerator ? "${moduleDir}/environment.gpu.yml" : "${moduleDir}/environment.yml"}"
    container "${task.accelerator ? 'quay.io/scgpt-tools/scgpt-tools:0.1.0-cu130' : 'quay.io/scgpt-tools/scgpt-tools:0.1.0-cpu'}"

    input:
    tuple val(meta), path(input, stageAs: 'input/*')
    tuple val(meta2), path(checkpoint, stageAs: 'checkpoint/*')
    path genes, stageAs: 'genes/*'

    output:
    tuple val(meta), path("${prefix}.h5ad"), emit: h5ad
    tuple val(meta), path("${prefix}.metrics.json"), emit: metrics, optional: true
    tuple val(meta), path("${prefix}.run.json"), emit: record
    tuple val("${task.process}"), val('scgpt-generate'), eval('scgpt-generate --version | sed "s/.* //"'), topic: versions, emit: versions_scgpt

    when:
    task.ext.when == null || task.ext.when

    script:
    def args = task.ext.args ?: ''
    prefix = task.ext.prefix ?: "${meta.id}"
    def listed = genes ? "--genes ${genes}" : ''
    def metrics = args.contains('--held-out-fraction') && !args.contains('--metrics') ? "--metrics ${prefix}.metrics.json" : ''
    def memory = task.memory ? "--memory ${(task.memory.toMega() * 0.5).toInteger()}M" : ''
    def device = task.accelerator ? 'cuda' : 'cpu'
    """
    scgpt-generate \\
        --input ${input} \\
        --output ${prefix}.h5ad \\
        --record ${prefix}.run.json \\
        --checkpoint ${checkpoint} \\
        ${listed} \\
        ${metrics} \\
        ${memory} \\
        --device ${device} \\
        --threads ${task.cpus} \\
        ${args}
    """

    stub:
    def args = task.ext.args ?: ''
    prefix = task.ext.prefix ?: "${meta.id}"
    """
    echo ${args}

    touch ${prefix}.h5ad ${prefix}.metrics.json
    echo '{}' > ${prefix}.run.json
    """
}
