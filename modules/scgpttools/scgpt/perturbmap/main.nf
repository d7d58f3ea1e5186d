process SCGPT_PERTURBMAP {
    tag "${meta.id}"
    label 'process_medium'

    conda "${task.accelerator ? "${moduleDir}/environment.gpu.yml" : "${moduleDir}/environment.yml"}"
    container "${task.accelerator ? 'quay.io/scgpt-tools/scgpt-tools:0.1.0-cu130' : 'quay.io/scgpt-tools/scgpt-tools:0.1.0-cpu'}"

    input:
    tuple val(meta), path(input, stageAs: 'input/*'), val(perturb)
    tuple val(meta2), path(model, stageAs: 'model/*')
    path genes_file, stageAs: 'genes/*'
    path groups, stageAs: 'groups/*'

    output:
    tuple val(meta), path("${prefix}.h5ad"), emit: h5ad
    tuple val(meta), path("${prefix}.tsv"), emit: table
    tuple val(meta), path("${prefix}.svg"), emit: plot
    tuple val(meta), path("${prefix}.run.json"), emit: record
    tuple val("${task.process}"), val('scgpt-perturb'), eval('scgpt-perturb --version | sed "s/.* //"'), topic: versions, emit: versions_scgpt

    when:
    task.ext.when == null || task.ext.when

    script:
    def args = task.ext.args ?: ''
    prefix = task.ext.prefix ?: "${meta.id}"
    def perturbations = perturb ? "--perturb '${[perturb].flatten().join(',')}'" : ''
    def genes = genes_file ? "--genes-file ${genes_file}" : ''
    def grouped = groups ? "--groups ${groups}" : ''
    def device = task.accelerator ? 'cuda' : 'cpu'
    """
    scgpt-perturb map \\
        --input ${input} \\
        --model ${model} \\
        --output ${prefix}.h5ad \\
        --table ${prefix}.tsv \\
        --plot ${prefix}.svg \\
        --record ${prefix}.run.json \\
        ${perturbations} \\
        ${genes} \\
        ${grouped} \\
        --device ${device} \\
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
