process SCGPT_PERTURBINSILICO {
    tag "${meta.id}"
    label 'process_medium'

    conda "${task.accelerator ? "${moduleDir}/environment.gpu.yml" : "${moduleDir}/environment.yml"}"
    container "${task.accelerator ? 'quay.io/scgpt-tools/scgpt-tools:0.1.0-cu130' : 'quay.io/scgpt-tools/scgpt-tools:0.1.0-cpu'}"

    input:
    tuple val(meta), path(input, stageAs: 'input/*'), val(groups), val(start), val(target)
    tuple val(meta2), path(checkpoint, stageAs: 'checkpoint/*')
    path genes_file, stageAs: 'genes/*'

    output:
    tuple val(meta), path("${prefix}.tsv"), emit: tsv
    tuple val(meta), path("${prefix}.run.json"), emit: record
    tuple val("${task.process}"), val('scgpt-perturb'), eval('scgpt-perturb --version | sed "s/.* //"'), topic: versions, emit: versions_scgpt

    when:
    task.ext.when == null || task.ext.when

    script:
    def args = task.ext.args ?: ''
    prefix = task.ext.prefix ?: "${meta.id}"
    def genes = genes_file ? "--genes-file ${genes_file}" : ''
    def device = task.accelerator ? 'cuda' : 'cpu'
    """
    scgpt-perturb in-silico \\
        --input ${input} \\
        --checkpoint ${checkpoint} \\
        --output ${prefix}.tsv \\
        --record ${prefix}.run.json \\
        --groups '${groups}' \\
        --start '${start}' \\
        --target '${target}' \\
        ${genes} \\
        --device ${device} \\
        --threads ${task.cpus} \\
        ${args}
    """

    stub:
    def args = task.ext.args ?: ''
    prefix = task.ext.prefix ?: "${meta.id}"
    """
    echo ${args}

    touch ${prefix}.tsv
    echo '{}' > ${prefix}.run.json
    """
}
