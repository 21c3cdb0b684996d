# A Python that runs models when asked, as worker.py says.
defmodule Bench.Peer do
  @doc "`:mlx` or `:jax`, in the interpreter at `python`, or with the packages in a folder."
  def start(name, python) do
    script = Path.join(__DIR__, "#{name}_worker.py")
    {python, packages} = if File.dir?(python), do: {"python3", python}, else: {python, nil}
    env = if packages, do: [{~c"PYTHONPATH", String.to_charlist(packages)}], else: []
    options = [:binary, :exit_status, line: 1_000_000, args: [script], env: env ++ blas(name)]
    Port.open({:spawn_executable, System.find_executable(python)}, options)
  end

  # The package's library was linked with a reference BLAS, some dozen times slower: the one that Emily
  # ships comes before it.
  defp blas(:mlx) do
    blas = :emily |> :code.priv_dir() |> Path.join("libopenblas.so.0")
    if File.exists?(blas), do: [{~c"LD_PRELOAD", String.to_charlist(blas)}], else: []
  end

  defp blas(:jax), do: []

  @doc "What it answers to a line."
  def ask(port, line) do
    Port.command(port, line <> "\n")
    answer(port)
  end

  defp answer(port) do
    receive do
      {^port, {:data, {:eol, line}}} -> JSON.decode!(line)
      {^port, {:exit_status, status}} -> raise "the peer ended with status #{status}"
    end
  end
end
