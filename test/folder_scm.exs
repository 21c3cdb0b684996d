defmodule Emily.FolderSCM do
  @moduledoc """
  Lets Mix load dependencies from a folder of sources on a machine without Hex.

  Mix asks for the source of every dependency that a project names before it drops those of other
  environments, so a dependency's own `ex_doc` would make it ask for Hex. Here such a dependency
  gets a place in the folder, where nobody looks for it.
  """

  @behaviour Mix.SCM

  # What tests compare models with, where the folder has it.
  @models [:polaris, :axon]

  @doc """
  What Emily depends on, from the folder that `EMILY_DEPS_PATH` names; nil if it names none.
  """
  def deps, do: deps(System.get_env("EMILY_DEPS_PATH"))

  defp deps(absent) when absent in [nil, ""], do: nil

  defp deps(folder) do
    if __MODULE__ not in Mix.SCM.available(), do: Mix.SCM.append(__MODULE__)

    required = for app <- [:complex, :telemetry, :nx], do: dependency(folder, app, [])

    models =
      for app <- @models, File.dir?(Path.join(folder, "#{app}")) do
        dependency(folder, app, only: :test)
      end

    required ++ models
  end

  defp dependency(folder, app, options),
    do: {app, [path: Path.join(folder, "#{app}"), override: true] ++ options}

  @impl true
  def accepts_options(app, opts) do
    folder = System.get_env("EMILY_DEPS_PATH")
    if folder, do: Keyword.put(opts, :dest, Path.expand(Path.join(folder, "#{app}")))
  end

  @impl true
  def fetchable?, do: false

  @impl true
  def format(opts), do: opts[:dest]

  @impl true
  def format_lock(_opts), do: nil

  @impl true
  def checked_out?(opts), do: File.dir?(opts[:dest])

  @impl true
  def checkout(opts), do: Mix.raise("expected the dependency's sources at #{opts[:dest]}")

  @impl true
  def update(opts), do: checkout(opts)

  @impl true
  def lock_status(_opts), do: :ok

  @impl true
  def equal?(one, other), do: one[:dest] == other[:dest]

  @impl true
  def managers(_opts), do: []
end
