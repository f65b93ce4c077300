import { mount } from 'svelte';
import App from './App.svelte';
import './styles/base.css';
import './styles/controls.css';
import './styles/speakers.css';
import { router } from '$lib/state/router.svelte';
import { theme } from '$lib/state/theme.svelte';

theme.start();
router.start();
const target = document.getElementById('app');
if (!target) throw new Error('index.html has no element with the id app.');
mount(App, { target });
