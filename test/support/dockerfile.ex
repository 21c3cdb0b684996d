defmodule Emily.Test.Dockerfile do
  @moduledoc """
  Carries out a Dockerfile in folders instead of containers: each stage has one, in which `/app` is.

  It knows `FROM`, `WORKDIR /app`, `ENV`, `COPY`, `RUN` and `CMD`. What only changes the image around
  the application is left out: packages of the system, and Hex with what it fetches.
  """

  @left_out ["apt-get ", "mix local.", "mix deps.get"]

  @enforce_keys [:context, :dir]
  defstruct @enforce_keys ++ [:folder, :command, stages: %{}, environment: []]

  @doc "The first `dockerfile` block of a guide."
  def of_guide(path) do
    [_text, rest | _more] = String.split(File.read!(path), "```dockerfile\n", parts: 2)
    rest |> String.split("\n```") |> hd()
  end

  @doc """
  Carries a file out: `context` is the folder that is copied from, and `dir` has the stages' folders.

  Returns the folder and the command of the last stage.
  """
  def build(text, context, dir) do
    text
    |> String.split("\n", trim: true)
    |> Enum.map(&String.split(&1, " ", parts: 2))
    |> Enum.reduce(%__MODULE__{context: context, dir: dir}, &step/2)
    |> Map.take([:folder, :command])
  end

  defp step(["FROM", image], state) do
    name = image |> String.split(" AS ") |> Enum.at(1, "last")
    folder = Path.join([state.dir, name, "app"])
    File.mkdir_p!(folder)
    %{state | folder: folder, stages: Map.put(state.stages, name, folder), environment: []}
  end

  defp step(["WORKDIR", "/app"], state), do: state

  defp step(["ENV", variable], state) do
    [name, value] = String.split(variable, "=", parts: 2)
    value = String.replace(value, "file:///app/", "file://#{state.folder}/")
    %{state | environment: [{name, value} | state.environment]}
  end

  defp step(["COPY", "--from=" <> rest], state) do
    [stage, "/app/" <> from, "."] = String.split(rest, " ")
    copy(Path.join([state.stages[stage], from, "."]), state.folder)
    state
  end

  defp step(["COPY", rest], state) do
    {names, [to]} = rest |> String.split(" ") |> Enum.split(-1)
    for name <- names, do: copy(Path.join(state.context, name), Path.join(state.folder, to))
    state
  end

  defp step(["RUN", command], state) do
    unless String.starts_with?(command, @left_out), do: run(command, state)
    state
  end

  defp step(["CMD", command], state), do: %{state | command: JSON.decode!(command)}

  defp copy(from, to), do: {_output, 0} = System.cmd("cp", ["-a", from, to])

  defp run(command, state) do
    [program | arguments] = String.split(command, " ")
    options = [cd: state.folder, env: clean() ++ state.environment, stderr_to_stdout: true]
    {output, status} = System.cmd(program, arguments, options)
    if status != 0, do: raise("RUN #{command} ended with status #{status}:\n#{output}")
  end

  # Nothing of this test run's own settings is in a container.
  defp clean do
    for name <- ~w(MIX_BUILD_PATH MIX_BUILD_ROOT MIX_DEPS_PATH MIX_EXS MIX_TARGET EMILY_VARIANT
                   EMILY_DEPS_PATH EMILY_CACHE HTTPS_PROXY https_proxy),
        do: {name, nil}
  end
end
