process SCGPT_INTEGRATE {
    tag "${meta.id}"
    label 'process_high'

    conda "${task.accelerator ? "${moduleDir}/environment.gpu.yml" : "${moduleDir}/environment.yml"}"
    container "${task.accelerator ? 'quay.io/scgpt-tools/scgpt-tools:0.1.0-cu130' : 'quay.io/scgpt-tools/scgpt-tools:0.1.0-cpu'}"

    // With a sample sheet, all files are passed as `input`; the sheet lists them as `input/NUMBER/NAME`.
    input:
    tuple val(meta), path(input, stageAs: 'input/?/*'), path(protein, stageAs: 'protein/?/*'), path(atac, stageAs: 'atac/?/*'), path(samples)
    path checkpoint, stageAs: 'checkpoint/*'

    output:
    tuple val(meta), path("${prefix}.h5ad"), emit: h5ad
    tuple val(meta), path("${prefix}.model"), emit: model, optional: true
    tuple val(meta), path("${prefix}.metrics.tsv"), emit: metrics
    tuple val(meta), path("${prefix}.svg"), emit: plot
    tuple val(meta), path("${prefix}.run.json"), emit: record
    tuple val("${task.process}"), val('scgpt-integrate'), eval('scgpt-integrate --version | sed "s/.* //"'), topic: versions, emit: versions_scgpt

    when:
    task.ext.when == null || task.ext.when

    script:
    def args = task.ext.args ?: ''
    prefix = task.ext.prefix ?: "${meta.id}"
    def files = [
        input ? "--input ${[input].flatten().join(',')}" : '',
        protein ? "--protein ${[protein].flatten().join(',')}" : '',
        atac ? "--atac ${[atac].flatten().join(',')}" : '',
    ].join(' ')
    def cells = samples ? "--samples ${samples}" : files
    def pretrained = checkpoint ? "--checkpoint ${checkpoint}" : ''
    def trained = args =~ /--zero-shot(?!='?false)/ ? '' : "--model ${prefix}.model"
    def device = task.accelerator ? 'cuda' : 'cpu'
    """
    scgpt-integrate \\
        ${cells} \\
        --output ${prefix}.h5ad \\
        --record ${prefix}.run.json \\
        ${trained} \\
        --metrics ${prefix}.metrics.tsv \\
        --plot ${prefix}.svg \\
        ${pretrained} \\
        --device ${device} \\
        --threads ${task.cpus} \\
        ${args}
    """

    stub:
    def args = task.ext.args ?: ''
    prefix = task.ext.prefix ?: "${meta.id}"
    def model = args =~ /--zero-shot(?!='?false)/ ? '' : "mkdir ${prefix}.model && touch ${prefix}.model/args.json ${prefix}.model/vocab.json ${prefix}.model/model.safetensors"
    """
    echo ${args}

    ${model}
    touch ${prefix}.h5ad ${prefix}.metrics.tsv ${prefix}.svg
    echo '{}' > ${prefix}.run.json
    """
}
