# Lets dependencies come from a folder of sources; the package ships without it.
folder = Path.join(__DIR__, "test/folder_scm.exs")
if File.regular?(folder), do: Code.require_file(folder)

defmodule Emily.MixProject do
  use Mix.Project

  # What ships has no such module.
  @compile {:no_warn_undefined, Emily.FolderSCM}

  # Cargo.toml carries the same version; `cargo xtask tidy` holds the two equal.
  @version "0.8.0-dev"
  @home "https://github.com/ausimian/emily"

  # What needs no dependency. With EMILY_BARE=1 it is compiled alone: the tensor API, the installer
  # and the doctor.
  @bare ~w(lib/emily.ex lib/emily/application.ex lib/emily/artifact.ex lib/emily/artifact
           lib/emily/doctor.ex lib/emily/doctor lib/emily/error.ex lib/emily/memory.ex
           lib/emily/native.ex lib/emily/native lib/emily/settings.ex lib/emily/stream.ex lib/mix)

  def project do
    [
      app: :emily,
      version: @version,
      elixir: "~> 1.18",
      compilers: Mix.compilers() ++ [:emily],
      elixirc_paths: elixirc_paths(Mix.env(), bare?()),
      start_permanent: Mix.env() == :prod,
      deps: if(bare?(), do: [], else: deps()),
      description: "Nx on Apple's MLX: Metal, CPU and CUDA, with a native core in Rust",
      source_url: @home,
      package: package()
    ]
  end

  def application do
    [
      mod:
        {Emily.Application,
         if(bare?(), do: [], else: [observer: Emily.Telemetry, children: [Emily.Compiler.Cache]])},
      extra_applications: [:logger, :crypto, :inets, :ssl, :public_key]
    ]
  end

  defp elixirc_paths(:test, true), do: @bare ++ ["test/support"]
  defp elixirc_paths(:test, false), do: ["lib", "test/support", "test/recorder"]
  defp elixirc_paths(_env, true), do: @bare
  defp elixirc_paths(_env, false), do: ["lib"]

  defp bare?, do: System.get_env("EMILY_BARE") in ["1", "true"]

  defp deps do
    folder = if Code.ensure_loaded?(Emily.FolderSCM), do: Emily.FolderSCM.deps()
    folder || [{:nx, "~> 0.13"}, {:telemetry, "~> 1.3"}]
  end

  defp package do
    [
      licenses: ["MIT"],
      links: %{"GitHub" => @home},
      files: ~w(lib priv/.gitkeep release/targets.json release/keys.json mix.exs .formatter.exs
                README.md ARCHITECTURE.md CHANGELOG.md LICENSE)
    ]
  end
end
