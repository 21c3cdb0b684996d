defmodule Mix.Tasks.Compile.Emily do
  @shortdoc "Installs Emily's native library"

  @moduledoc """
  Installs the native library that Emily calls, after the Elixir compiler.

  In a project that depends on Emily this downloads the library of the wanted variant, verifies it
  and puts it into Emily's `priv/`. When it is there already, nothing happens, and no network is
  needed: the first compile of a build reads every installed byte, the later ones look at names and
  sizes. Mix runs it whenever it compiles Emily; it may also be run by hand, in the project that
  depends on Emily:

      $ mix compile.emily            # after choosing another variant
      $ mix compile.emily --force    # to ask the release, verify and install again

  In a checkout of Emily no release is ever downloaded. Where there is no library, `cargo xtask nif` builds it,
  which takes some minutes, and `mix compile --force` builds it anew after its sources have changed. A
  machine without Cargo gets a warning, and all of Emily but what calls the library.

  ## Options

    * `--force` - installs, or in a checkout builds, even if the library is in place

  `Emily.Settings` lists the variables and the configuration that choose the variant, the cache, the
  release and the way to it.
  """

  use Mix.Task.Compiler

  alias Emily.Artifact.{
    Checksum,
    Console,
    Host,
    Install,
    Keyring,
    Manifest,
    Priv,
    Report,
    Targets
  }

  alias Emily.Settings
  alias Mix.Task.Compiler.Diagnostic

  @app :emily

  @impl true
  def run(arguments) do
    {options, _rest, _unknown} = OptionParser.parse(arguments, switches: [force: :boolean])

    if checkout?() do
      build(Host.target(), Keyword.get(options, :force, false))
    else
      install(settings(), options)
    end
  end

  # A setting of the wrong type is a mistake to name, and no bug to trace.
  defp settings do
    Settings.load()
  rescue
    error in ArgumentError -> Mix.raise(Exception.message(error))
  end

  @doc """
  Removes what was installed; in a checkout, where Cargo built it, leaves it alone.
  """
  @impl true
  def clean do
    unless checkout?() do
      File.rm(stamp_path())
      Priv.clean(priv())
    end
  end

  # The package has no native sources.
  defp checkout?, do: File.exists?(Path.join(root(), "native/nif/Cargo.toml"))

  # Mix compiles Emily inside its own project, and makes of an error what it makes of any other
  # compiler's. By hand, the task runs in a project that depends on Emily, and nobody else would.
  defp inside?, do: Mix.Project.config()[:app] == @app

  defp root do
    if inside?() do
      Path.dirname(Mix.Project.project_file())
    else
      Map.fetch!(Mix.Project.deps_paths(), @app)
    end
  end

  defp priv, do: Path.join([Mix.Project.build_path(), "lib", "#{@app}", "priv"])

  defp build(target, force) do
    cargo = System.find_executable("cargo")

    cond do
      built?(target) and not force -> {:noop, []}
      cargo == nil -> without_cargo(force)
      true -> build_with(cargo)
    end
  end

  defp built?(target) do
    case Targets.fetch(target) do
      {:ok, %{"library" => library}} -> File.exists?(Path.join(priv(), library))
      :error -> false
    end
  end

  # Without the library the installer and the doctor work all the same.
  defp without_cargo(force) do
    text =
      Report.text(
        "Emily's native library is not built: this machine has no Cargo",
        [
          {"path", Path.join(root(), "native/nif")},
          {"expected", "cargo in PATH, of Rust 1.91 or newer"}
        ],
        "Install Rust, from https://rustup.rs or your distribution, and run `mix compile`."
      )

    if force, do: failed(text), else: warned(text)
  end

  defp warned(text) do
    Mix.shell().error([:yellow, "warning: ", :reset, text])
    {:noop, [diagnostic(:warning, text)]}
  end

  # It says itself what is missing, and which command provides that.
  defp build_with(cargo) do
    Mix.shell().info("Building Emily's native library: cargo xtask nif")

    case System.cmd(cargo, ["xtask", "nif"],
           cd: root(),
           stderr_to_stdout: true,
           into: IO.stream(:stdio, :line)
         ) do
      {_output, 0} ->
        {:ok, []}

      {_output, status} ->
        failed(
          Report.text(
            "Emily's native library did not build",
            [{"path", root()}, {"command", "cargo xtask nif"}, {"status", "#{status}"}],
            "Do what the lines above name, such as `cargo xtask setup` where a tool is missing, and run `mix compile`."
          )
        )
    end
  end

  defp failed(text) do
    Mix.shell().error([:red, "error: ", :reset, text])
    unless inside?(), do: exit({:shutdown, 1})
    {:error, [diagnostic(:error, text)]}
  end

  defp install(settings, options) do
    with {:ok, artifact} <- Targets.select(settings.variant, Host.target()),
         :wanted <- wanted(artifact, Keyword.get(options, :force, false)),
         {:ok, keyring} <- Keyring.release(),
         {:ok, warnings, manifest} <- run_install(artifact, settings, keyring) do
      stamp()
      bytes = manifest.files |> Enum.map(& &1.size) |> Enum.sum()

      Mix.shell().info(
        "Installed Emily's native library #{manifest.version} (#{manifest.variant}, " <>
          "#{manifest.target}), #{Console.megabytes(bytes)} MB"
      )

      {:ok, warnings}
    else
      :installed ->
        {:noop, []}

      {:error, error} ->
        failed(Exception.message(error))
    end
  end

  defp wanted(_artifact, true), do: :wanted

  defp wanted(artifact, false) do
    depth = if stamped?(), do: :size, else: :sha256

    if Install.installed?(priv(), artifact, depth) do
      stamp()
      :installed
    else
      :wanted
    end
  end

  # The stamp says that this build has read what the manifest lists. It goes with the build's other
  # manifests, so `mix deps.compile emily --force` reads everything again, and mends what it finds.
  defp stamp_path,
    do: Path.join([Mix.Project.build_path(), "lib", "#{@app}", ".mix/compile.emily"])

  defp stamped? do
    with {:ok, stamp} <- File.read(stamp_path()),
         {:ok, manifest} <- File.read(Path.join(priv(), Manifest.name())) do
      stamp == Checksum.of(manifest)
    else
      _absent -> false
    end
  end

  defp stamp do
    unless stamped?() do
      manifest = File.read!(Path.join(priv(), Manifest.name()))
      File.mkdir_p!(Path.dirname(stamp_path()))
      File.write!(stamp_path(), Checksum.of(manifest))
    end
  end

  @spec run_install(Emily.Artifact.t(), Settings.t(), Keyring.t()) ::
          {:ok, [Diagnostic.t()], Manifest.t()} | {:error, Exception.t()}
  defp run_install(artifact, settings, keyring) do
    shell = Mix.shell()
    parent = self()

    console =
      Console.new(
        draw: Console.terminal(),
        info: &shell.info/1,
        warning: fn text ->
          shell.error([:yellow, "warning: ", :reset, text])
          send(parent, {__MODULE__, diagnostic(:warning, text)})
        end
      )

    install = %Install{
      artifact: artifact,
      settings: settings,
      priv: priv(),
      keyring: keyring,
      notify: &Console.show(console, &1)
    }

    result = Install.run(install)
    Console.end_bar(console)
    with {:ok, manifest} <- result, do: {:ok, warnings([]), manifest}
  end

  defp warnings(heard) do
    receive do
      {__MODULE__, warning} -> warnings([warning | heard])
    after
      0 -> Enum.reverse(heard)
    end
  end

  defp diagnostic(severity, text) do
    %Diagnostic{
      compiler_name: "emily",
      file: Mix.Project.project_file(),
      message: text,
      position: 0,
      severity: severity
    }
  end
end
