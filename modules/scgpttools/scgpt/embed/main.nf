process SCGPT_EMBED {
    tag "${meta.id}"
    label 'process_medium'

    conda "${task.accelerator ? "${moduleDir}/environment.gpu.yml" : "${moduleDir}/environment.yml"}"
    container "${task.accelerator ? 'quay.io/scgpt-tools/scgpt-tools:0.1.0-cu130' : 'quay.io/scgpt-tools/scgpt-tools:0.1.0-cpu'}"

    input:
    tuple val(meta), path(input, stageAs: 'input/*')
    tuple val(meta2), path(checkpoint, stageAs: 'checkpoint/*')

    output:
    tuple val(meta), path("${prefix}.h5ad"), emit: h5ad
    tuple val(meta), path("${prefix}.svg"), emit: plot, optional: true
    tuple val(meta), path("${prefix}.run.json"), emit: record
    tuple val("${task.process}"), val('scgpt-embed'), eval('scgpt-embed --version | sed "s/.* //"'), topic: versions, emit: versions_scgpt

    when:
    task.ext.when == null || task.ext.when

    script:
    def args = task.ext.args ?: ''
    prefix = task.ext.prefix ?: "${meta.id}"
    def plot = task.ext.plot ? "--plot ${prefix}.svg" : ''
    def device = task.accelerator ? 'cuda' : 'cpu'
    """
    scgpt-embed \\
        --input ${input} \\
        --output ${prefix}.h5ad \\
        --record ${prefix}.run.json \\
        --checkpoint ${checkpoint} \\
        ${plot} \\
        --device ${device} \\
        --threads ${task.cpus} \\
        ${args}
    """

    stub:
    def args = task.ext.args ?: ''
    prefix = task.ext.prefix ?: "${meta.id}"
    """
    echo ${args}

    touch ${prefix}.h5ad ${prefix}.svg
    echo '{}' > ${prefix}.run.json
    """
}
